/* safetensors files: strict mapped reading, writing that never leaves half a file.
 *
 *     xft_safetensors *file;
 *     XFT_TRY(xft_safetensors_open("model.safetensors", &file));
 *     const xft_stored_tensor *w = xft_safetensors_find(file, "lm_head.weight");
 *     … w->data is valid until xft_safetensors_close(file)
 *
 * A file is: 8 bytes little-endian header length, a JSON object name -> {dtype, shape, data_offsets}, the data. Refused
 * with file, tensor and reason: a header over 100 MB or that is no JSON object, duplicate names, unknown dtypes and
 * keys, offsets that overlap, leave holes or miss the end of the file, sizes that disagree with shape and dtype.
 *
 * Threads: a file may be read from several threads at once.
 */
#ifndef XFT_SAFETENSORS_H
#define XFT_SAFETENSORS_H

#include "xft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { XFT_STORED_MAX_RANK = 8 };

/* Element types of the format. */
typedef enum xft_stored_dtype {
    XFT_STORED_BOOL,
    XFT_STORED_U8,
    XFT_STORED_I8,
    XFT_STORED_F8_E5M2,
    XFT_STORED_F8_E4M3,
    XFT_STORED_I16,
    XFT_STORED_U16,
    XFT_STORED_F16,
    XFT_STORED_BF16,
    XFT_STORED_I32,
    XFT_STORED_U32,
    XFT_STORED_F32,
    XFT_STORED_F64,
    XFT_STORED_I64,
    XFT_STORED_U64,
    XFT_STORED_DTYPE_COUNT
} xft_stored_dtype;

/* "F32", "BF16" …; "?" for a number that is none. */
XFT_API const char *xft_stored_dtype_name(xft_stored_dtype dtype);
/* Bytes of one element; 0 for a number that is none. */
XFT_API uint32_t xft_stored_dtype_size(xft_stored_dtype dtype);

typedef struct xft_stored_tensor {
    const char *name;
    xft_stored_dtype dtype;
    uint32_t rank;                       /* 0: a scalar */
    uint64_t shape[XFT_STORED_MAX_RANK]; /* outermost first */
    const void *data;                    /* little-endian, row-major, not necessarily aligned; NULL when writing */
    uint64_t bytes;
} xft_stored_tensor;

typedef struct xft_safetensors xft_safetensors;

/* Maps and checks a file. */
XFT_API xft_status xft_safetensors_open(const char *path, xft_safetensors **file);
/* NULL is accepted. */
XFT_API void xft_safetensors_close(xft_safetensors *file);

XFT_API const char *xft_safetensors_path(const xft_safetensors *file);
XFT_API uint32_t xft_safetensors_count(const xft_safetensors *file);
/* Tensors in the order of their data; NULL when index is out of range. */
XFT_API const xft_stored_tensor *xft_safetensors_at(const xft_safetensors *file, uint32_t index);
/* NULL when there is no tensor of that name. */
XFT_API const xft_stored_tensor *xft_safetensors_find(const xft_safetensors *file, const char *name);
/* Value of a key of __metadata__, or NULL. */
XFT_API const char *xft_safetensors_metadata(const xft_safetensors *file, const char *key);

/* Elements `first` to `first + count` of a float tensor (F64, F32, F16, BF16) as f32, or of an integer tensor (I64,
 * I32, U32, BOOL, U8, I8, I16, U16, U64) as int64. Refuses other dtypes, ranges and values that do not fit. */
XFT_API xft_status xft_stored_read_f32(const xft_stored_tensor *tensor, uint64_t first, uint64_t count, float *values);
XFT_API xft_status xft_stored_read_i64(const xft_stored_tensor *tensor, uint64_t first, uint64_t count,
                                       int64_t *values);

/* Gives the content of tensor `index` while a file is written: fills `bytes` bytes. */
typedef xft_status (*xft_stored_source)(void *user, uint32_t index, void *data, uint64_t bytes);

/* Writes a file with __metadata__ {"format": "pt"}: to PATH.tmp-PID, fsync, rename to PATH, fsync of the folder. Name,
 * dtype, rank and shape of each tensor are taken from `tensors`; its content from data when that is not NULL, else from
 * `source`. extra: NULL, or pairs key, value, …, NULL of further metadata. On failure PATH is as it was. */
XFT_API xft_status xft_safetensors_write(const char *path, const xft_stored_tensor *tensors, uint32_t count,
                                         const char *const *extra, xft_stored_source source, void *user);

#ifdef __cplusplus
}
#endif
#endif
