/* Which form and tile of a kernel a device runs. Some choices are measured (ops/tune.c) and remembered on disk; the
 * others are made by rules, from what the driver says of the device. All of them are handed out as a text, and taken
 * from such a text: neither a lost cache nor a noisy measurement, another limit of the driver or another rule may
 * change the bits of a run that goes on.
 *
 * Whatever depends on the driver's numbers and decides the order of a sum is such a choice; its key says of what:
 *
 *     workgroup                        invocations of a work-group that shares a row's or a column's sum
 *     lanes                            floats of a vector in the forms for CPUs; 0: the plain forms (OpenCL)
 *     gemm nt f32 f32 f32 512x576x576  form and tile of a product of M x N x K; grouped: M x N x K of E
 *     gemm nt f32 f32 f32 large        what the tuner has measured for products of that size
 *     attention_backward_q 64          form and tile of a pass of attention, by head size
 */
#ifndef XFT_RUNTIME_CHOICE_H
#define XFT_RUNTIME_CHOICE_H

#include "driver.h"

/* The value to take for `key`: from the options' text, or measured (by this process or, from the cache on disk, an
 * earlier one). NULL: the rule decides. Belongs to the device until the next xft_choice_set. */
const char *xft_choice_get(const xft_device *device, const char *key);

/* What the tuner has measured. */
xft_status xft_choice_set(xft_device *device, const char *key, const char *value);

/* What was taken for `key`, by whatever reason, and so belongs into the text. Where there is no memory for it, the op
 * that is recorded with it fails: xft_record asks xft_choices_noted, which says so once. */
void xft_choice_note(const xft_device *device, const char *key, const char *value);
xft_status xft_choices_noted(const xft_device *device);

/* At opening: the text of the options, which then decides alone and is not written to disk (what it does not name is
 * left to rules), or when that is NULL or of another device the cache on disk. A damaged text is refused, a damaged
 * cache ignored. */
xft_status xft_choices_load(xft_device *device, const char *text);
void xft_choices_save(xft_device *device);
void xft_choices_free(xft_device *device);

/* JSON {"device": …, "api": …, "driver": …, "choices": {key: value}} of all that was given, measured and taken. */
xft_status xft_choices_text(xft_device *device, const char **json);

#endif
