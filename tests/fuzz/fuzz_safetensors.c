/* Opening a safetensors file, and reading every tensor. Checked beside the sanitizers: tensors lie in order and without
 * holes, are found by name, and their bytes can be read. */
#include "input.h"

#include "xft/safetensors.h"

#include <string.h>

static void read_tensor(const xft_stored_tensor *t) {
    float floats[64];
    int64_t integers[64];
    uint64_t elements = t->bytes / xft_stored_dtype_size(t->dtype), sum = 0;
    for (uint64_t i = 0; i < t->bytes; i++) sum += ((const unsigned char *)t->data)[i];
    require(sum <= 255 * t->bytes);
    uint64_t count = elements < 64 ? elements : 64;
    xft_stored_read_f32(t, elements - count, count, floats);
    xft_stored_read_i64(t, elements - count, count, integers);
    require(xft_stored_read_f32(t, elements, 1, floats) != XFT_OK);
    require(xft_stored_read_i64(t, UINT64_MAX, 2, integers) != XFT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    xft_safetensors *file;
    if (xft_safetensors_open(file_of(data, size), &file) != XFT_OK) {
        require(*xft_error());
        return 0;
    }
    const char *end = NULL;
    for (uint32_t i = 0; i < xft_safetensors_count(file); i++) {
        const xft_stored_tensor *t = xft_safetensors_at(file, i);
        require(t && xft_safetensors_find(file, t->name) == t);
        require(!end || end == t->data);
        end = (const char *)t->data + t->bytes;
        read_tensor(t);
    }
    require(!xft_safetensors_at(file, xft_safetensors_count(file)));
    xft_safetensors_metadata(file, "format");
    xft_safetensors_close(file);
    return 0;
}
