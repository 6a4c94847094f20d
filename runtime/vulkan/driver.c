#include "vk.h"

const xft_driver xft_vulkan_driver = {
    .api = XFT_API_VULKAN,
    .name = "vulkan",
    .enumerate = xft_vk_enumerate,
    .open = xft_vk_open,
    .close = xft_vk_close,
    .memory = xft_vk_memory,
    .buffer_create = xft_vk_buffer_create,
    .buffer_destroy = xft_vk_buffer_destroy,
    .buffer_write = xft_vk_buffer_write,
    .buffer_read = xft_vk_buffer_read,
    .kernel_create = xft_vk_kernel_create,
    .kernel_destroy = xft_vk_kernel_destroy,
    .program_create = xft_vk_program_create,
    .program_destroy = xft_vk_program_destroy,
    .submit = xft_vk_submit,
    .wait = xft_vk_wait,
    .done = xft_vk_done,
    .timings = xft_vk_timings,
};
