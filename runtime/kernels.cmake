# Kernels: every row of ops.def has a .comp and a .cl; variants where ops.def says so. SPIR-V is compiled and validated
# here and embedded; OpenCL C is embedded as text. A variant the compiler at hand cannot make is left out, and said.
find_program(GLSLANG glslangValidator REQUIRED)
find_program(SPIRV_VAL spirv-val REQUIRED)

set(XFT_KERNEL_DIR ${CMAKE_BINARY_DIR}/kernels)
file(MAKE_DIRECTORY ${XFT_KERNEL_DIR})
file(GLOB XFT_SHADERS CONFIGURE_DEPENDS shaders/*.comp)
file(GLOB XFT_SHADER_HEADERS CONFIGURE_DEPENDS shaders/*.glsl)
file(GLOB XFT_CL_KERNELS CONFIGURE_DEPENDS opencl/*.cl)
file(GLOB XFT_CL_HEADERS CONFIGURE_DEPENDS opencl/*.clh)
set(XFT_EMBED ${CMAKE_SOURCE_DIR}/runtime/embed.cmake)
set(XFT_KERNEL_C "")

# embed(symbol input output): a C file with `const unsigned char symbol[]` and `const unsigned long symbol_size`
function(xft_embed symbol input output)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DSYMBOL=${symbol} -DINPUT=${input} -DOUTPUT=${output} -P ${XFT_EMBED}
    DEPENDS ${input} ${XFT_EMBED} VERBATIM)
endfunction()

foreach(shader ${XFT_SHADERS})
  get_filename_component(stem ${shader} NAME_WLE)            # op or op.variant
  string(REPLACE "." "__" symbol ${stem})
  set(spv ${XFT_KERNEL_DIR}/${stem}.spv)
  set(optional FALSE)
  if(stem MATCHES "\\.coopmat$")
    execute_process(COMMAND ${GLSLANG} -V --target-env vulkan1.3 -S comp -I${CMAKE_SOURCE_DIR}/shaders
      -I${CMAKE_SOURCE_DIR}/runtime -o ${spv}.probe ${shader} RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
    if(NOT failed)
      execute_process(COMMAND ${SPIRV_VAL} --target-env vulkan1.3 --scalar-block-layout ${spv}.probe
        RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
    endif()
    if(failed)
      message(STATUS "left out: shaders/${stem}.comp (this glslang or spirv-val has no GL_KHR_cooperative_matrix)")
      file(WRITE ${spv} "")
      set(optional TRUE)
    endif()
  endif()
  if(NOT optional)
    set(target_env vulkan1.2)
    if(stem MATCHES "\\.coopmat$")
      set(target_env vulkan1.3)
    endif()
    add_custom_command(OUTPUT ${spv}
      COMMAND ${GLSLANG} -V --quiet --target-env ${target_env} -S comp -I${CMAKE_SOURCE_DIR}/shaders
        -I${CMAKE_SOURCE_DIR}/runtime -o ${spv} ${shader}
      COMMAND ${SPIRV_VAL} --target-env ${target_env} --scalar-block-layout ${spv}
      DEPENDS ${shader} ${XFT_SHADER_HEADERS} ${CMAKE_SOURCE_DIR}/runtime/op_params.h VERBATIM)
  endif()
  xft_embed(xft_spv_${symbol} ${spv} ${XFT_KERNEL_DIR}/${stem}.spv.c)
  list(APPEND XFT_KERNEL_C ${XFT_KERNEL_DIR}/${stem}.spv.c)
endforeach()

foreach(kernel ${XFT_CL_KERNELS})
  get_filename_component(stem ${kernel} NAME_WLE)
  string(REPLACE "." "__" symbol ${stem})
  xft_embed(xft_cl_${symbol} ${kernel} ${XFT_KERNEL_DIR}/${stem}.cl.c)
  list(APPEND XFT_KERNEL_C ${XFT_KERNEL_DIR}/${stem}.cl.c)
endforeach()

# Headers of the OpenCL kernels travel in front of each kernel: op_params.h, xft.clh, then the other .clh by name.
list(REMOVE_ITEM XFT_CL_HEADERS ${CMAKE_SOURCE_DIR}/opencl/xft.clh)
list(PREPEND XFT_CL_HEADERS ${CMAKE_SOURCE_DIR}/opencl/xft.clh)
set(prelude_parts ${CMAKE_SOURCE_DIR}/runtime/op_params.h ${XFT_CL_HEADERS})
set(prelude ${XFT_KERNEL_DIR}/prelude.clh)
add_custom_command(OUTPUT ${prelude} COMMAND cat ${prelude_parts} > ${prelude} DEPENDS ${prelude_parts} VERBATIM)
xft_embed(xft_cl_prelude ${prelude} ${XFT_KERNEL_DIR}/prelude.c)
list(APPEND XFT_KERNEL_C ${XFT_KERNEL_DIR}/prelude.c)

add_custom_target(xft_kernels DEPENDS ${XFT_KERNEL_C})
add_dependencies(xft_objects xft_kernels)
target_sources(xft_objects PRIVATE ${XFT_KERNEL_C})
