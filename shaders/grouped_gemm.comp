#version 460
// Products per expert; rows [offsets[e], offsets[e+1]) belong to expert e.
// NT: a [R,K], b [E,N,K], c [R,N]; NN: a [R,K], b [E,K,N], c [R,N]: every row by its expert's matrix.
// TN: a [R,M], b [R,N], c [E,M,N]: each expert reduces over its own rows; "=" writes zeros where it has none.
// Grid: see grouped_gemm.glsl.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemm_tile.glsl"
const bool STRETCHES = false;
#include "grouped_gemm.glsl"
