/* What the fuzz targets share. */
#ifndef XFT_FUZZ_INPUT_H
#define XFT_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding, when the condition does not hold. */
void require(bool holds);

/* The path of a file in memory that holds the input, for parsers that read files; the same one each time. */
const char *file_of(const uint8_t *data, size_t size);

/* The input with a zero behind it, to be freed with free(). */
char *text_of(const uint8_t *data, size_t size);

#endif
