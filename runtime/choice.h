/* Choices made by measuring: which form and tile of a kernel a device runs. They are
 * remembered on disk, handed out as a text, and taken from such a text, so that a later run makes the same ones: a lost
 * cache or a noisy measurement must not change the bits of a run. */
#ifndef XFT_RUNTIME_CHOICE_H
#define XFT_RUNTIME_CHOICE_H

#include "driver.h"

/* The value chosen for `key` earlier on this device (by this process, the cache on disk, or the options' text), or
 * NULL. Belongs to the device until the next xft_choice_set. Every choice read or set counts as made by this run. */
const char *xft_choice_get(xft_device *device, const char *key);
xft_status xft_choice_set(xft_device *device, const char *key, const char *value);

/* At opening: the text of the options, which then decides alone and is not written to disk (what it does not name was
 * left to rules), or when that is NULL the cache on disk. A damaged text is refused, a damaged cache ignored. */
xft_status xft_choices_load(xft_device *device, const char *text);
void xft_choices_save(xft_device *device);
void xft_choices_free(xft_device *device);

/* JSON {"device": …, "driver": …, "choices": {key: value}} of the choices this run made. */
xft_status xft_choices_text(xft_device *device, const char **json);

#endif
