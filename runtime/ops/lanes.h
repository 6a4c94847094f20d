/* The forms of attention and cross-entropy for CPU devices through OpenCL (opencl/lanes.clh). */
#ifndef XFT_RUNTIME_OPS_LANES_H
#define XFT_RUNTIME_OPS_LANES_H

#include "xft/device.h"

/* Whether the device has vectors for them, and nothing else is forced. */
bool xft_has_lanes(const xft_device_info *info);

/* For tests and the benchmark: until called with NULL, ops recorded by this thread use the form "plain" or, on any CPU
 * device of OpenCL, "cpu". */
void xft_lanes_force(const char *form);

#endif
