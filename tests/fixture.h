/* What the suites share: the device under test, a folder for a test, and the way a refusal is expected. */
#ifndef XFT_TESTS_FIXTURE_H
#define XFT_TESTS_FIXTURE_H

#include <criterion/criterion.h>
#include <string.h>

#include "xft/ops.h"

/* Opens the device named by XFT_TEST_DEVICE ("auto" without). */
xft_device *fixture_open(const xft_device_options *options);

/* Destroys arena and stream (NULL is accepted), shows that the device's counters of live objects are zero, closes. */
void fixture_close(xft_device *device, xft_arena *arena, xft_stream *stream);

/* The folder of the test that runs: made by fixture_begin, removed with all that is in it by fixture_end. */
extern char folder[100];
void fixture_begin(void);
void fixture_end(void);

/* "folder/name"; the last few results stay valid. */
const char *path_of(const char *name);

/* A folder that is empty now; the same path for the same name in one process. */
const char *fixture_folder(const char *name);

/* A tensor with rows x cols floats: value + step * index. */
xft_tensor fixture_tensor(xft_arena *arena, uint32_t rows, uint32_t cols, float value, float step);

#define OK(call) cr_assert_eq(call, XFT_OK, "%s: %s", #call, xft_error())

/* The call fails with that status, and the message holds `word`. */
#define REFUSES(call, status, word)                                                                                    \
    do {                                                                                                               \
        xft_status refused = (call);                                                                                   \
        cr_expect_eq(refused, status, "%s gives %s, expected %s", #call, xft_status_name(refused), #status);           \
        cr_expect(strstr(xft_error(), word), "%s: \"%s\" does not say \"%s\"", #call, xft_error(), word);              \
    } while (0)

#endif
