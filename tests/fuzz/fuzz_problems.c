/* A file of problems, plain or gzip. Checked beside the sanitizers: every problem has its texts and a name of its own.
 */
#include "input.h"

#include "xft/score.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    xft_problems *problems;
    if (xft_problems_load(file_of(data, size), &problems) != XFT_OK) {
        require(*xft_error());
        return 0;
    }
    uint32_t count = xft_problems_count(problems);
    require(count > 0 && !xft_problems_at(problems, count));
    for (uint32_t i = 0; i < count; i++) {
        const xft_problem *p = xft_problems_at(problems, i);
        require(p->task_id && p->instruction && p->response && p->prompt && p->entry_point);
        if (i) require(strcmp(p->task_id, xft_problems_at(problems, i - 1)->task_id));
    }
    xft_problems_free(problems);
    return 0;
}
