/* Logs of runs, as the report reads them. Checked beside the sanitizers: a page is written or a reason is given. */
#include "input.h"

#include "xft/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/xft-fuzz-report-XXXXXX", log[64], page[64];

static void remove_folder(void) {
    unlink(log);
    unlink(page);
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = file_of(data, size);
    if (!*log) {
        require(mkdtemp(folder) != NULL);
        snprintf(log, sizeof log, "%s/log.jsonl", folder);
        snprintf(page, sizeof page, "%s/report.html", folder);
        require(symlink(path, log) == 0 && atexit(remove_folder) == 0);
    }
    struct stat about;
    unlink(page);
    bool written = xft_report_write(folder, "title", page) == XFT_OK;
    require(written ? stat(page, &about) == 0 && about.st_size > 1000 : *xft_error() != 0);
    return 0;
}
