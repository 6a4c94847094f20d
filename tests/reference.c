#include "reference.h"

ref_function ref_find(xft_op op) {
    static const ref_function functions[] = {
#define OP(name, buffers, constants) [XFT_OP_##name] = ref_##name,
#define VARIANT(op, name, api, constants)
#include "ops.def"
#undef OP
#undef VARIANT
    };
    return functions[op];
}
