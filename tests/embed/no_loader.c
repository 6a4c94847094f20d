/* Preloaded into a program, it makes the loaders of Vulkan and OpenCL absent: dlopen of them fails. */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

void *dlopen(const char *name, int flags) {
    if (name && (strstr(name, "vulkan") || strstr(name, "OpenCL"))) return NULL;
    void *(*real)(const char *, int);
    *(void **)(&real) = dlsym(RTLD_NEXT, "dlopen");
    return real(name, flags);
}
