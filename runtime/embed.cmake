# cmake -DSYMBOL=… -DINPUT=file -DOUTPUT=file.c -P embed.cmake: a file as a C array.
file(READ "${INPUT}" hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
if(size EQUAL 0)
  set(bytes "0")
endif()
file(WRITE "${OUTPUT}" "#include <stdalign.h>
extern const unsigned char ${SYMBOL}[];
extern const unsigned long long ${SYMBOL}_size;
alignas(16) const unsigned char ${SYMBOL}[] = {
${bytes}};
const unsigned long long ${SYMBOL}_size = ${size};
")
