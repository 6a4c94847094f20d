/* radv: compiles shaders with RADV for the GPU named by RADV_FORCE_FAMILY (a null device: nothing is executed) and
 * prints what its compiler says of registers, spills and cost. Reads lines "FILE LABEL PUSH_BYTES VALUE…" (values of
 * the specialization constants 0, 1, …; "4S" is four times the size of the device's subgroups) from standard input.
 * Kernels with subgroup operations get subgroups as in runtime/vulkan/kernel.c. Prints, per line,
 *
 *     LABEL registers=… spills=… scratch=… local=… occupancy=… cost=…
 *
 * Exit code 1: a shader does not compile, 2: no such device. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

static VkInstance instance;
static VkDevice device;
static uint32_t subgroup_size;
static bool can_require_subgroups;
static PFN_vkGetPipelineExecutablePropertiesKHR get_executables;
static PFN_vkGetPipelineExecutableStatisticsKHR get_statistics;

static int open_device(int cooperative) {
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
    VkInstanceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    if (vkCreateInstance(&create, NULL, &instance)) return 2;
    uint32_t count = 1;
    VkPhysicalDevice physical;
    if (vkEnumeratePhysicalDevices(instance, &count, &physical) < 0 || count == 0) return 2;
    VkPhysicalDeviceVulkan13Properties v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
    VkPhysicalDeviceVulkan11Properties v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES,
                                              .pNext = &v13};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &v11};
    vkGetPhysicalDeviceProperties2(physical, &properties);
    subgroup_size = v11.subgroupSize;
    can_require_subgroups =
        v13.minSubgroupSize != v13.maxSubgroupSize && v13.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
    fprintf(stderr, "%s, subgroups of %u\n", properties.properties.deviceName, subgroup_size);
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR};
    VkPhysicalDeviceVulkan13Features f13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
                                            .pNext = &executables};
    VkPhysicalDeviceVulkan12Features f12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                            .pNext = &f13};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f12};
    vkGetPhysicalDeviceFeatures2(physical, &features);
    features.features.robustBufferAccess = VK_FALSE; /* as the library leaves it */
    const char *extensions[] = {VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME, "VK_KHR_cooperative_matrix"};
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo make = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = cooperative ? 2 : 1,
                               .ppEnabledExtensionNames = extensions};
    if (vkCreateDevice(physical, &make, NULL, &device)) return 2;
    get_executables = (PFN_vkGetPipelineExecutablePropertiesKHR)(void (*)(void))vkGetDeviceProcAddr(
        device, "vkGetPipelineExecutablePropertiesKHR");
    get_statistics = (PFN_vkGetPipelineExecutableStatisticsKHR)(void (*)(void))vkGetDeviceProcAddr(
        device, "vkGetPipelineExecutableStatisticsKHR");
    return get_executables && get_statistics ? 0 : 2;
}

static uint64_t statistic(const VkPipelineExecutableStatisticKHR *s, uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(s[i].name, name)) return s[i].value.u64;
    return 0;
}

static int report(VkPipeline pipeline, const char *label) {
    VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    VkPipelineExecutablePropertiesKHR executable = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    uint32_t one = 1, count = 0;
    if (get_executables(device, &info, &one, &executable) < 0) return 1;
    VkPipelineExecutableInfoKHR which = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
    if (get_statistics(device, &which, &count, NULL)) return 1;
    VkPipelineExecutableStatisticKHR *s = calloc(count, sizeof *s);
    if (!s) return 1;
    for (uint32_t i = 0; i < count; i++) s[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    if (get_statistics(device, &which, &count, s)) return free(s), 1;
    printf("%s registers=%llu spills=%llu scratch=%llu local=%llu occupancy=%llu cost=%llu\n", label,
           (unsigned long long)statistic(s, count, "VGPRs"),
           (unsigned long long)(statistic(s, count, "Spilled VGPRs") + statistic(s, count, "Spilled SGPRs")),
           (unsigned long long)statistic(s, count, "Scratch size"), (unsigned long long)statistic(s, count, "LDS size"),
           (unsigned long long)statistic(s, count, "Subgroups per SIMD"),
           (unsigned long long)statistic(s, count, "Inverse Throughput"));
    free(s);
    return 0;
}

/* Whether a SPIR-V module declares a capability. */
static bool declares(const uint32_t *words, size_t count, uint32_t capability) {
    for (size_t i = 5; i + 1 < count && words[i] == (2u << 16 | 17u); i += 2)
        if (words[i + 1] == capability) return true;
    return false;
}

static int compile(const char *path, const char *label, uint32_t push_bytes, const uint32_t *values, uint32_t count) {
    FILE *file = fopen(path, "rb");
    if (!file) return fprintf(stderr, "cannot read %s\n", path), 1;
    static uint32_t words[1 << 18];
    size_t size = fread(words, 1, sizeof words, file);
    fclose(file);
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = size, .pCode = words};
    VkSpecializationMapEntry entries[32];
    for (uint32_t i = 0; i < count; i++) entries[i] = (VkSpecializationMapEntry){i, 4 * i, 4};
    VkSpecializationInfo constants = {count, entries, 4 * count, values};
    const bool subgroups = declares(words, size / 4, 61 /* GroupNonUniform */);
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo required = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = subgroup_size};
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, push_bytes};
    VkPipelineLayoutCreateInfo layout_info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                              .pushConstantRangeCount = 1,
                                              .pPushConstantRanges = &range};
    VkShaderModule module = VK_NULL_HANDLE;
    VkPipelineLayout layout = VK_NULL_HANDLE;
    VkPipeline pipeline = VK_NULL_HANDLE;
    int failed = vkCreateShaderModule(device, &module_info, NULL, &module) ||
                 vkCreatePipelineLayout(device, &layout_info, NULL, &layout);
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VK_PIPELINE_CREATE_DISPATCH_BASE_BIT,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = subgroups && can_require_subgroups ? &required : NULL,
                  .flags = subgroups && values[0] % subgroup_size == 0
                               ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT
                               : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &constants},
        .layout = layout};
    failed = failed || vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline) ||
             report(pipeline, label);
    if (failed) printf("%s does not compile\n", label);
    vkDestroyPipeline(device, pipeline, NULL);
    vkDestroyPipelineLayout(device, layout, NULL);
    vkDestroyShaderModule(device, module, NULL);
    return failed;
}

int main(int argc, char **argv) {
    int failed = open_device(argc > 1 && !strcmp(argv[1], "--cooperative"));
    if (failed) return failed;
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        char *save, *path = strtok_r(line, " \n", &save), *label = strtok_r(NULL, " \n", &save);
        char *push = strtok_r(NULL, " \n", &save), *word;
        if (!push) continue;
        uint32_t values[32], count = 0;
        while (count < 32 && (word = strtok_r(NULL, " \n", &save))) {
            char *end;
            values[count] = (uint32_t)strtoul(word, &end, 10);
            if (*end == 'S') values[count] *= subgroup_size;
            count++;
        }
        failed |= compile(path, label, (uint32_t)strtoul(push, NULL, 10), values, count);
        fflush(stdout);
    }
    vkDestroyDevice(device, NULL);
    vkDestroyInstance(instance, NULL);
    return failed;
}
