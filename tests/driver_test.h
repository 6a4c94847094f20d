/* The third driver: plain C behind the table of driver.h, for tests only. It executes dispatches through ref_<op>,
 * fails and loses what it is told to, executes late and out of order where no barrier forbids it, and counts what is
 * left alive.
 */
#ifndef XFT_TESTS_DRIVER_TEST_H
#define XFT_TESTS_DRIVER_TEST_H

#include "driver.h"

/* Behaviour; set before opening, or while the device is open. One device at a time. */
typedef struct test_driver_settings {
    uint32_t fail_allocation;  /* number, from 1, of the buffer, kernel or program that is refused; 0: none */
    bool fail_forever;         /* all from there on, not that one alone */
    uint32_t lose_at_submit;   /* number, from 1, of the submit that loses the device; 0: none */
    uint32_t lose_at_transfer; /* likewise of a blocking read or write */
    bool late;                 /* nothing runs before the host waits for it */
    uint64_t shuffle;          /* not 0: seed of the order between two barriers */
    bool ignore_barriers;      /* a planted bug: they order nothing */
    bool lie_about_done;       /* a planted bug: submits that have not run are said to be done */
    uint64_t allocation_limit; /* bytes of one buffer; 0: 1 GiB */
} test_driver_settings;

typedef struct test_driver_counts {
    uint32_t devices, buffers, kernels, programs; /* alive */
    uint32_t allocations, submits, transfers;     /* since the device was opened */
} test_driver_counts;

extern test_driver_settings test_driver;
extern test_driver_counts test_counts;
extern const xft_driver xft_test_driver;

xft_status test_device_open(const xft_device_options *options, xft_device **device);

#endif
