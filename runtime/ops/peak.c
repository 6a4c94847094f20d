/* The roofline in multiply-adds: ops.h, Measuring. */
#include "grid.h"

xft_status xft_fma_peak(xft_stream *stream, const xft_tensor *x, uint32_t rounds, const xft_tensor *y) {
    XFT_ARG(stream, "fma_peak", x, XFT_F32_ONLY, 1, 0);
    uint32_t count = xft_cols(x);
    XFT_ARG(stream, "fma_peak", y, XFT_F32_ONLY, 1, count);
    XFT_OP_FAIL_IF(count % 16 != 0, stream, "fma_peak: x has %u elements; expected a multiple of 16", count);
    xft_device *device = xft_stream_device(stream);
    bool wide = device->info.device_class == XFT_CLASS_CPU;
    uint32_t wg = xft_workgroup_for(device), width = device->info.api == XFT_API_VULKAN ? 1 : wide ? 16 : 4;
    xft_fma_peak_params p = {count, rounds};
    xft_dispatch d = {.op = XFT_OP_fma_peak,
                      .tensors = {x, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {wg, width},
                      .groups = {xft_ceil_div(count, wg * width), 1, 1},
                      .flops = 16.0 * rounds * count};
    return xft_record(stream, &d);
}
