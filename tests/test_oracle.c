/* Suite `oracle`: every case folder of XFT_ORACLE (tests/oracle of the sources) on the device XFT_TEST_DEVICE, one line
 * per case: folder, device, worst metric / tolerance. XFT_ORACLE_ONLY: only folders whose name contains it. */
#include "oracle.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CASES = 1024 };

typedef struct case_folder {
    char name[64];
} case_folder;

static const char *root(void) {
    const char *folder = getenv("XFT_ORACLE");
    return folder && *folder ? folder : XFT_ORACLE_DEFAULT;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

/* The case folders by name; 0 where there are none, or more than the list holds. */
static size_t list_cases(case_folder folders[MOST_CASES]) {
    size_t count = 0;
    const char *only = getenv("XFT_ORACLE_ONLY");
    DIR *dir = opendir(root());
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s/case.json", root(), entry->d_name);
        if (access(path, R_OK) || (only && !strstr(entry->d_name, only))) continue;
        if (count < MOST_CASES) snprintf(folders[count].name, sizeof folders->name, "%.63s", entry->d_name);
        count++;
    }
    if (dir) closedir(dir);
    if (count > MOST_CASES) {
        memset(folders, 0, sizeof *folders);
        return 0;
    }
    qsort(folders, count, sizeof *folders, by_name);
    return count;
}

ParameterizedTestParameters(oracle, every_case) {
    static case_folder folders[MOST_CASES];
    size_t count = list_cases(folders);
    if (!count) count = 1; /* a case without a name fails: nothing may pass because nothing was found */
    case_folder *list = cr_calloc(count, sizeof *list);
    memcpy(list, folders, count * sizeof *list);
    return cr_make_param_array(case_folder, list, count, NULL);
}

ParameterizedTest(case_folder *folder, oracle, every_case) {
    const char *name = getenv("XFT_TEST_DEVICE"), *label = getenv("XFT_TEST_LABEL");
    char path[1024];
    cr_assert(*folder->name, "%s holds no case (case.json) with \"%s\" in its name, or more than %d", root(),
              getenv("XFT_ORACLE_ONLY") ? getenv("XFT_ORACLE_ONLY") : "", MOST_CASES);
    snprintf(path, sizeof path, "%s/%s", root(), folder->name);
    xft_device *device;
    xft_device_options options = {.debug = XFT_DEBUG_HAZARDS | XFT_DEBUG_POISON};
    cr_assert_eq(xft_device_open(name ? name : "auto", &options, &device), XFT_OK, "%s", xft_error());
    oracle o;
    xft_status status = oracle_open(&o, path, device);
    if (status == XFT_OK) status = oracle_run(&o);
    cr_expect_eq(status, XFT_OK, "%s: %s", folder->name, xft_error());
    printf("%-28s %-12s %-8.1e %s%s%s\n", folder->name, label ? label : xft_device_get_info(device)->id,
           status == XFT_OK ? o.worst : 1e300, o.worst_name, o.failed ? "  FAILED: " : "", o.message);
    fflush(stdout);
    cr_expect_eq(o.failed, 0, "%s: %u checks failed, first: %s", folder->name, o.failed, o.message);
    oracle_close(&o);
    xft_device_close(device);
}
