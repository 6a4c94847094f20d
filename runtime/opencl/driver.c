/* The table of the OpenCL driver. */
#include "opencl.h"

const xft_driver xft_opencl_driver = {
    .api = XFT_API_OPENCL,
    .name = "opencl",
    .enumerate = xft_cl_enumerate,
    .open = xft_cl_open,
    .close = xft_cl_close,
    .memory = xft_cl_memory,
    .buffer_create = xft_cl_buffer_create,
    .buffer_destroy = xft_cl_buffer_destroy,
    .buffer_write = xft_cl_buffer_write,
    .buffer_read = xft_cl_buffer_read,
    .kernel_create = xft_cl_kernel_create,
    .kernel_destroy = xft_cl_kernel_destroy,
    .program_create = xft_cl_program_create,
    .program_destroy = xft_cl_program_destroy,
    .submit = xft_cl_submit,
    .wait = xft_cl_wait,
    .done = xft_cl_done,
    .timings = xft_cl_timings,
};
