# The function table: every XFT_API function of the public headers as a member of one struct, so that a host that loads
# the library with dlopen needs a single symbol. Made from the headers, so it is never out of step with them.
#   cmake -DHEADERS=a.h,b.h -DVERSION=0.1.0 -DHEADER=…/xft/table.h -DSOURCE=…/table.c -P table.cmake
string(REPLACE "," ";" headers "${HEADERS}")
string(REPLACE "." ";" version "${VERSION}")
list(GET version 0 major)
list(GET version 1 minor)
set(includes "")
set(members "")
set(values "")
foreach(header ${headers})
  get_filename_component(name ${header} NAME)
  string(APPEND includes "#include \"xft/${name}\"\n")
  file(READ ${header} text)
  string(REGEX REPLACE "/\\*([^*]|\\*+[^*/])*\\*+/" "" text "${text}")
  string(REGEX REPLACE "#[^\n]*(\\\\\n[^\n]*)*\n" "" text "${text}")
  string(REGEX MATCHALL "XFT_API [^;{]+" functions "${text}")
  foreach(function ${functions})
    string(REGEX REPLACE "[ \n\t]+" " " function "${function}")
    if(function MATCHES "^XFT_API (.*[ *])(xft_[a-z0-9_]+)(\\(.*\\))$")
      set(result "${CMAKE_MATCH_1}")
      set(symbol "${CMAKE_MATCH_2}")
      set(arguments "${CMAKE_MATCH_3}")
      string(REGEX REPLACE "^xft_" "" member "${symbol}")
      string(APPEND members "    ${result}(*${member})${arguments};\n")
      string(APPEND values "    .${member} = ${symbol},\n")
    endif()
  endforeach()
endforeach()

file(WRITE ${HEADER}.new "/* The whole API as a table of functions, for programs that load the library while they run:
 *
 *     void *library = dlopen(\"libxftgpu.so.${major}\", RTLD_NOW);
 *     xft_get_table_function get = (xft_get_table_function)dlsym(library, \"xft_get_table\");
 *     const xft_table *xft = get(XFT_TABLE_MAJOR, XFT_TABLE_MINOR);
 *     xft->device_open(\"auto\", NULL, &device);
 *
 * Made by the build from the other headers: member f is the function xft_f.
 */
#ifndef XFT_TABLE_H
#define XFT_TABLE_H

${includes}
#ifdef __cplusplus
extern \"C\" {
#endif

#define XFT_TABLE_MAJOR ${major}
#define XFT_TABLE_MINOR ${minor}

typedef struct xft_table {
    uint32_t major, minor; /* of the headers the table was made from */
    uint64_t size;         /* bytes of this struct */
${members}} xft_table;

typedef const xft_table *(*xft_get_table_function)(uint32_t major, uint32_t minor);

/* The table, or NULL (see xft_error) when the library's version is another: members are in the order of the headers, so
 * a table serves programs built with the same major and minor number. */
XFT_API const xft_table *xft_get_table(uint32_t major, uint32_t minor);

#ifdef __cplusplus
}
#endif
#endif
")
file(WRITE ${SOURCE}.new "#include \"xft/table.h\"
#include \"error.h\"

static const xft_table table = {
    .major = XFT_TABLE_MAJOR,
    .minor = XFT_TABLE_MINOR,
    .size = sizeof(xft_table),
${values}};

const xft_table *xft_get_table(uint32_t major, uint32_t minor) {
    if (major == XFT_TABLE_MAJOR && minor == XFT_TABLE_MINOR) return &table;
    xft_fail(XFT_ERROR_UNSUPPORTED, \"xft_get_table: version %u.%u was asked for; this library is %u.%u\", major, minor,
             (unsigned)XFT_TABLE_MAJOR, (unsigned)XFT_TABLE_MINOR);
    return NULL;
}
")
file(RENAME ${HEADER}.new ${HEADER})
file(RENAME ${SOURCE}.new ${SOURCE})
