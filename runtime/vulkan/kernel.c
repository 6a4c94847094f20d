#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "vk.h"

/* ---- The pipeline cache ---- */

/* What a pipeline cache is good for: this device under this build of its driver. */
static xft_cache_key key_of(const vk_device *vk) {
    const VkPhysicalDeviceProperties *p = &vk->physical.properties.properties;
    const uint32_t numbers[] = {p->vendorID, p->deviceID, p->driverVersion, p->apiVersion};
    xft_cache_key key;
    xft_cache_key_start(&key);
    xft_cache_key_add(&key, numbers, sizeof numbers);
    xft_cache_key_add(&key, vk->physical.v11.deviceUUID, VK_UUID_SIZE);
    xft_cache_key_add(&key, vk->physical.v11.driverUUID, VK_UUID_SIZE);
    xft_cache_key_add(&key, p->pipelineCacheUUID, VK_UUID_SIZE);
    return key;
}

static uint64_t hash_of(const void *data, size_t size) {
    xft_cache_key hash;
    xft_cache_key_start(&hash);
    xft_cache_key_add(&hash, data, size);
    return hash.word[0];
}

static xft_status open_cache(vk_device *vk) {
    const xft_cache_key key = key_of(vk);
    size_t size = 0;
    void *data = vk->cache_dir ? xft_cache_load(vk->cache_dir, "vulkan", &key, &size) : NULL;
    VkPipelineCacheCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, .initialDataSize = size, .pInitialData = data};
    VkResult result = vk->api.vkCreatePipelineCache(vk->device, &create, NULL, &vk->cache);
    if (data) vk->cache_hash = hash_of(data, size);
    free(data);
    if (result < 0 && size) { /* the driver does not like it: start afresh */
        vk->cache_hash = 0;
        create.initialDataSize = 0;
        create.pInitialData = NULL;
        result = vk->api.vkCreatePipelineCache(vk->device, &create, NULL, &vk->cache);
    }
    return xft_vk_result(result, "vkCreatePipelineCache");
}

/* Puts on disk what this run added. */
static void save_cache(vk_device *vk) {
    size_t size = 0;
    if (!vk->cache_dir || vk->front->lost ||
        vk->api.vkGetPipelineCacheData(vk->device, vk->cache, &size, NULL) != VK_SUCCESS)
        return;
    void *data = malloc(size + 1);
    if (!data) return;
    if (vk->api.vkGetPipelineCacheData(vk->device, vk->cache, &size, data) == VK_SUCCESS &&
        hash_of(data, size) != vk->cache_hash) {
        const xft_cache_key key = key_of(vk);
        xft_cache_store(vk->cache_dir, "vulkan", &key, data, size);
    }
    free(data);
}

xft_status xft_vk_kernels_open(vk_device *vk, const char *cache_dir) {
    vk->cache_dir = cache_dir;
    /* One layout serves all: addresses and parameters in 128 bytes, no descriptor sets. */
    const VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = XFT_ARGUMENT_BYTES};
    const VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                               .pushConstantRangeCount = 1,
                                               .pPushConstantRanges = &range};
    VK(vk->api.vkCreatePipelineLayout(vk->device, &layout, NULL, &vk->layout));
    return open_cache(vk);
}

void xft_vk_kernels_close(vk_device *vk) {
    if (vk->cache) {
        save_cache(vk);
        vk->api.vkDestroyPipelineCache(vk->device, vk->cache, NULL);
    }
    if (vk->layout) vk->api.vkDestroyPipelineLayout(vk->device, vk->layout, NULL);
}

/* ---- Kernels ---- */

/* Whether a SPIR-V module declares a capability; they come first, right behind the five words of its header. */
static bool declares(const xft_kernel_source *source, uint32_t capability) {
    const uint32_t *words = (const uint32_t *)(const void *)source->data;
    const uint32_t op_capability = 2u << 16 | 17u;
    for (uint64_t i = 5; i + 1 < source->size / 4 && words[i] == op_capability; i += 2)
        if (words[i + 1] == capability) return true;
    return false;
}

/* A kernel with subgroup operations gets subgroups of exactly info.subgroup_size, all of them full. */
static void require_subgroups(const vk_device *vk, const xft_kernel *kernel, VkPipelineShaderStageCreateInfo *stage,
                              VkPipelineShaderStageRequiredSubgroupSizeCreateInfo *required) {
    const uint32_t group_non_uniform = 61, size = vk->front->info.subgroup_size;
    if (!size || !declares(kernel->source, group_non_uniform)) return;
    const VkPhysicalDeviceSubgroupSizeControlProperties *can = &vk->physical.subgroup;
    if (vk->physical.features.subgroup.subgroupSizeControl && can->minSubgroupSize != can->maxSubgroupSize &&
        (can->requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT)) {
        required->requiredSubgroupSize = size;
        stage->pNext = required;
    }
    if (vk->physical.features.subgroup.computeFullSubgroups && kernel->constants[0] % size == 0)
        stage->flags |= VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;
}

static xft_status create_pipeline(vk_device *vk, const xft_kernel *kernel, VkShaderModule module,
                                  VkPipeline *pipeline) {
    VkSpecializationMapEntry entries[XFT_MAX_CONSTANTS];
    for (uint32_t i = 0; i < kernel->source->constant_count; i++)
        entries[i] = (VkSpecializationMapEntry){
            .constantID = i, .offset = i * (uint32_t)sizeof(uint32_t), .size = sizeof(uint32_t)};
    const VkSpecializationInfo constants = {.mapEntryCount = kernel->source->constant_count,
                                            .pMapEntries = entries,
                                            .dataSize = kernel->source->constant_count * sizeof(uint32_t),
                                            .pData = kernel->constants};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo required = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
    VkComputePipelineCreateInfo create = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                          .flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT,
                                          .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                    .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                    .module = module,
                                                    .pName = "main",
                                                    .pSpecializationInfo = &constants},
                                          .layout = vk->layout};
    require_subgroups(vk, kernel, &create.stage, &required);
    VkResult result = vk->api.vkCreateComputePipelines(vk->device, vk->cache, 1, &create, NULL, pipeline);
    xft_status status = xft_vk_result(result, "vkCreateComputePipelines");
    return status == XFT_ERROR_DRIVER || status == XFT_ERROR_UNSUPPORTED ? XFT_ERROR_COMPILE : status;
}

/* "WG=64 DT_A=0 …" for messages; the front names the kernel. */
typedef struct constants_text {
    char text[160];
} constants_text;

static constants_text constants_of(const xft_kernel *kernel) {
    constants_text t = {""};
    for (uint32_t i = 0; i < kernel->source->constant_count; i++) {
        size_t at = strlen(t.text);
        snprintf(t.text + at, sizeof t.text - at, "%s%s=%u", i ? " " : "", kernel->source->constants[i],
                 kernel->constants[i]);
    }
    return t;
}

xft_status xft_vk_kernel_create(xft_device *device, xft_kernel *kernel) {
    vk_device *vk = xft_vk(device);
    const xft_kernel_source *source = kernel->source;
    const xft_op_info *op = xft_op_get_info(source->op);
    kernel->impl = NULL;
    XFT_FAIL_IF(!source->size, XFT_ERROR_UNSUPPORTED,
                "it was left out of this build, whose shader compiler was too old");
    vk_kernel *k = calloc(1, sizeof *k);
    XFT_FAIL_IF(!k, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a kernel");
    k->buffers = op->buffer_count;
    k->push_bytes = 8 * op->buffer_count + 4 * op->param_words;
    const VkShaderModuleCreateInfo create = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                             .codeSize = (size_t)source->size,
                                             .pCode = (const uint32_t *)(const void *)source->data};
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult result = vk->api.vkCreateShaderModule(vk->device, &create, NULL, &module);
    xft_status status = xft_vk_result(result, "vkCreateShaderModule");
    if (status == XFT_OK) {
        status = create_pipeline(vk, kernel, module, &k->pipeline);
        vk->api.vkDestroyShaderModule(vk->device, module, NULL);
    }
    kernel->impl = k;
    if (status == XFT_OK) return XFT_OK;
    xft_vk_kernel_destroy(device, kernel);
    return xft_fail_in(status, "with %s", constants_of(kernel).text);
}

void xft_vk_kernel_destroy(xft_device *device, xft_kernel *kernel) {
    vk_kernel *k = kernel->impl;
    if (!k) return;
    vk_device *vk = xft_vk(device);
    if (k->pipeline) vk->api.vkDestroyPipeline(vk->device, k->pipeline, NULL);
    free(k);
    kernel->impl = NULL;
}
