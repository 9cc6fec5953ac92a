#include <trinix/core/safetensors/dtypes.h>

namespace trinix::safetensors {

namespace {

// In the format's own order (its `Dtype` enumeration), which the writer goes through backwards.
constexpr FileDtype kDtypes[] = {
    {"BOOL", 8, DType::boolean},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"U8", 8, DType::u8},
    {"I8", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"F16", 16, DType::f16},
    {"BF16", 16, DType::bf16},
    {"I32", 32, DType::i32},
    {"U32", 32, {}},
    {"F32", 32, DType::f32},
    {"C64", 64, {}},
    {"F64", 64, DType::f64},
    {"I64", 64, DType::i64},
    {"U64", 64, {}},
};

}  // namespace

const FileDtype* find_dtype(std::string_view name) {
  for (const FileDtype& d : kDtypes) {
    if (d.name == name) return &d;
  }
  return nullptr;
}

const FileDtype& file_dtype(DType dtype) {
  const FileDtype* found = kDtypes;
  while (found->dtype != dtype) ++found;  // every dtype of the library is in the table
  return *found;
}

int write_order(DType dtype) { return -static_cast<int>(&file_dtype(dtype) - kDtypes); }

std::string readable_names() {
  std::string text;
  for (const FileDtype& d : kDtypes) {
    if (!d.dtype) continue;
    if (!text.empty()) text += ", ";
    text += d.name;
  }
  return text;
}

}  // namespace trinix::safetensors
