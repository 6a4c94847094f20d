#version 460
// grouped_gemm by subgroups, for software Vulkan: see gemm_subgroup.glsl and grouped_gemm.glsl.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemm_subgroup.glsl"
const bool STRETCHES = true;
#include "grouped_gemm.glsl"
