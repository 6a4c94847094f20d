#version 460
// grouped_gemm by subgroups, for software Vulkan: see gemm_subgroup.glsl and grouped_gemm.glsl.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemm_subgroup.glsl"
// Software Vulkan gives each core one contiguous stretch of groups: with columns outermost each has some of every expert.
// NN reads too much of b for that.
const bool ROWS_FIRST = FORM != 1;
#include "grouped_gemm.glsl"
