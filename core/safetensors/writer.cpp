#include <algorithm>
#include <nlohmann/json.hpp>

#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/safetensors.h>
#include <trinix/core/safetensors/dtypes.h>
#include <trinix/core/safetensors/file.h>
#include <trinix/core/safetensors/header.h>
#include <trinix/core/safetensors/header_text.h>

namespace trinix {

using detail::fail;
using safetensors::shown_name;

namespace {

using Named = std::pair<std::string, Tensor>;

std::uint64_t bytes_of(const Tensor& t) {
  std::uint64_t bytes = 0;
  // An expanded tensor can have more elements than any memory.
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(t.numel()), size_of(t.dtype()), &bytes)) {
    fail<ShapeError>("safetensors", "a tensor of shape {} and dtype {} exceeds 64 bits of bytes", t.shape(), t.dtype());
  }
  return bytes;
}

/// In the order of the file. Pointers, because sorting handles would count references up and down for nothing.
std::vector<const Named*> in_file_order(std::span<const Named> tensors) {
  std::vector<const Named*> order;
  order.reserve(tensors.size());
  for (const Named& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const Named* a, const Named* b) {
    const int rank_a = safetensors::write_order(a->second.dtype());
    const int rank_b = safetensors::write_order(b->second.dtype());
    return rank_a != rank_b ? rank_a < rank_b : a->first < b->first;
  });
  return order;
}

void check_names(std::span<const Named> tensors, std::string_view file) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    if (name.empty()) fail<FormatError>("safetensors", "cannot write {}: a tensor has an empty name", file);
    if (name == safetensors::kMetadataKey) {
      fail<FormatError>("safetensors", "cannot write {}: the name {} is reserved", file, shown_name(name));
    }
    if (!tensor.defined()) {
      fail<FormatError>("safetensors", "cannot write {}: tensor {} is undefined", file, shown_name(name));
    }
    names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    fail<FormatError>("safetensors", "cannot write {}: the name {} is given twice", file, shown_name(*twice));
  }
}

/// The text as a JSON string, quotes included.
std::string json_string(const std::string& text, std::string_view file) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail<FormatError>("safetensors", "cannot write {}: {} is not UTF-8", file, shown_name(text));
  }
}

std::string header_text(const std::vector<const Named*>& order, std::map<std::string, std::string> metadata,
                        std::string_view file) {
  metadata.emplace("format", "pt");
  std::string text = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (text.back() != '{') text += ',';
    text += json_string(key, file) + ':' + json_string(value, file);
  }
  text += '}';
  std::uint64_t position = 0;
  for (const Named* named : order) {
    const auto& [name, tensor] = *named;
    text += ',' + json_string(name, file) + ":{\"dtype\":\"";
    text += safetensors::file_dtype(tensor.dtype()).name;
    text += "\",\"shape\":[";
    for (int i = 0; i < tensor.rank(); ++i) {
      if (i > 0) text += ',';
      text += std::to_string(tensor.shape()[i]);
    }
    text += "],\"data_offsets\":[" + std::to_string(position) + ',';
    if (__builtin_add_overflow(position, bytes_of(tensor), &position)) {
      fail<FormatError>("safetensors", "cannot write {}: the tensors together exceed 64 bits of bytes", file);
    }
    text += std::to_string(position) + "]}";
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > safetensors::kLargestHeader) {
    fail<FormatError>("safetensors",
                      "cannot write {}: its header takes {} bytes, more than the limit of {}; use fewer "
                      "or shorter names",
                      file, text.size(), safetensors::kLargestHeader);
  }
  return text;
}

/// The same values, row-major and on the host. Below autograd, which must not see it.
Tensor host_copy(const Tensor& tensor) {
  Tensor dense = tensor;
  if (!tensor.is_contiguous()) {
    dense = empty(tensor.shape(), {tensor.dtype(), tensor.device()});
    run<Copy>({.from = tensor.raw(), .to = dense.raw()}, tensor.device());
  }
  if (dense.device().is_cpu()) return dense;
  const Tensor host = empty(dense.shape(), {dense.dtype()});
  Backend& backend = backend_of(dense.device());
  backend.copy(host.raw_data(), Device::cpu(), dense.raw_data(), dense.device(), bytes_of(dense),
               stream_of(dense.device()));
  backend.synchronize(dense.device().index);
  return host;
}

}  // namespace

void save_safetensors(const std::filesystem::path& path, std::span<const Named> tensors,
                      const std::map<std::string, std::string>& metadata) {
  const std::string file = shown_name(path.string());
  check_names(tensors, file);
  const auto order = in_file_order(tensors);
  const std::string header = header_text(order, metadata, file);
  const auto length = static_cast<std::uint64_t>(header.size());

  safetensors::ReplacementFile out(path);
  out.write(&length, sizeof(length));
  out.write(header);
  for (const Named* named : order) {
    if (named->second.numel() == 0) continue;
    const Tensor host = host_copy(named->second);
    out.write(host.raw_data(), bytes_of(host));
  }
  out.commit();
}

}  // namespace trinix
