#include "oracle.h"
#include "error.h"
xft_status oracle_run_generate(oracle *o) {
    return xft_fail(XFT_ERROR_UNSUPPORTED, "%s", o->folder);
}
