/* xft inspect */
#include <stdlib.h>

#include "command.h"
#include "xft/inspect.h"

int run_inspect(call *call) {
    char *json, *text;
    xft_status status = xft_inspect(call->operands[0], &console, &json);
    if (status) return fail_status(status);
    if (call->json) return print_json_text(json);
    status = xft_inspect_text(json, call_option(call, OPTION_TENSORS) != NULL, &text);
    free(json);
    if (status) return fail_status(status);
    fputs(text, stdout);
    free(text);
    return EXIT_DONE;
}
