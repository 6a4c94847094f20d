/* What is right for each argument of the public functions, so that one at a time can be wrong. */
#ifndef XFT_TESTS_REFUSALS_H
#define XFT_TESTS_REFUSALS_H

#include "xft/table.h"

void refusals_open(void);
void refusals_close(void);

/* A pointer or number that `function` takes for `argument`. */
void *right_pointer(const char *function, const char *argument, const char *type);
uint64_t right_number(const char *function, const char *argument);

/* Whether NULL, or every number, is right. */
bool may_be_anything(const char *function, const char *argument);

/* Fails when a line of the list of such arguments was never asked for. */
void check_list_of_free_arguments(void);

#endif
