/* The forms of attention and cross-entropy for CPU devices through OpenCL (opencl/lanes.clh). */
#ifndef XFT_RUNTIME_OPS_LANES_H
#define XFT_RUNTIME_OPS_LANES_H

#include "xft/device.h"

/* xft_lanes_for the device, or for the form that is forced: 0 for the plain ones. */
uint32_t xft_form_lanes(const xft_device *device);

/* For tests and the benchmark: until called with NULL, ops recorded by this thread use the form "plain" or, on any CPU
 * device of OpenCL, "cpu". */
void xft_lanes_force(const char *form);

#endif
