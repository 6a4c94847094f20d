/* Files of code problems. Checked beside the sanitizers: every problem that is accepted has all its texts. */
#include "input.h"

#include "xft/score.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    xft_problems *problems;
    if (xft_problems_load(file_of(data, size), &problems) != XFT_OK) {
        require(*xft_error());
        return 0;
    }
    require(xft_problems_count(problems) > 0);
    for (uint32_t i = 0; i < xft_problems_count(problems); i++) {
        const xft_problem *p = xft_problems_at(problems, i);
        require(p->task_id && p->instruction && p->response && p->prompt && p->entry_point);
        require(p->test || !strncmp(p->task_id, "Mbpp/", 5));
    }
    xft_problems_free(problems);
    return 0;
}
