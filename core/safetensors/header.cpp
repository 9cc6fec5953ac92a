// Checks that need more than one entry: sizes against shapes, entries against each other and against the file.
#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/safetensors/dtypes.h>
#include <trinix/core/safetensors/header.h>
#include <trinix/core/safetensors/header_text.h>

namespace trinix {

namespace safetensors {

static_assert(std::endian::native == std::endian::little, "the data is used as it lies in the file");

namespace {

template <class... Args>
[[noreturn]] void fail_file(std::string_view file, std::string_view text, const Args&... args) {
  detail::fail<FormatError>("safetensors", "{}: {}", shown_name(file), detail::format(text, args...));
}

/// "[2, 3]", cut to a readable length.
std::string shape_text(const std::vector<std::int64_t>& shape) {
  constexpr std::size_t kShown = 16;
  std::string text = "[";
  for (std::size_t i = 0; i < std::min(shape.size(), kShown); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  if (shape.size() > kShown) text += ", ... (" + std::to_string(shape.size()) + " dims)";
  return text + "]";
}

/// Bits that the shape and dtype need; nothing when they do not fit in 64 bits. Multiplies from the left, as the
/// reference implementation does, so a zero counts only for what comes after it.
std::optional<std::uint64_t> bits_of(const SafetensorsInfo& t) {
  std::uint64_t bits = 1;
  for (const std::int64_t n : t.shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(n), &bits)) return {};
  }
  if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(find_dtype(t.dtype_name)->bits), &bits)) return {};
  return bits;
}

void check_size(const SafetensorsInfo& t, std::string_view file) {
  const std::optional<std::uint64_t> bits = bits_of(t);
  if (!bits) {
    fail_file(file, "tensor {}: size overflow: shape {} of {} does not fit in 64 bits", shown_name(t.name),
              shape_text(t.shape), t.dtype_name);
  }
  if (*bits % 8 != 0) {
    fail_file(file, "tensor {}: shape {} of {} is {} bits, not whole bytes", shown_name(t.name), shape_text(t.shape),
              t.dtype_name, *bits);
  }
  if (t.end - t.begin != *bits / 8) {
    fail_file(file, "tensor {}: shape {} of {} needs {} bytes, but data_offsets [{}, {}] hold {}", shown_name(t.name),
              shape_text(t.shape), t.dtype_name, *bits / 8, t.begin, t.end, t.end - t.begin);
  }
}

/// Every tensor begins where the one before it ended; the last ends where the file does.
void check_layout(const std::vector<SafetensorsInfo>& tensors, std::uint64_t data_bytes, std::string_view file,
                  const SafetensorsOptions& options) {
  std::uint64_t position = 0;
  for (const SafetensorsInfo& t : tensors) {
    if (t.end < t.begin) {
      fail_file(file, "tensor {}: data_offsets [{}, {}] are reversed", shown_name(t.name), t.begin, t.end);
    }
    if (t.begin != position) {
      fail_file(file, "tensor {}: data_offsets [{}, {}] {} the data before, which ends at {}", shown_name(t.name),
                t.begin, t.end, t.begin < position ? "overlap" : "leave a hole after", position);
    }
    check_size(t, file);
    if (t.end > data_bytes) {
      fail_file(file, "tensor {}: needs data up to byte {}, but the file has {} bytes of data (incomplete download?)",
                shown_name(t.name), t.end, data_bytes);
    }
    position = t.end;
  }
  if (position != data_bytes && !options.ignore_trailing_bytes) {
    fail_file(file,
              "{} bytes follow the last tensor, which ends at byte {} of {} bytes of data; set "
              "ignore_trailing_bytes to accept them",
              data_bytes - position, position, data_bytes);
  }
}

// Sorted rather than hashed: names chosen to collide in a hash table would make the check quadratic.
void check_names(const std::vector<SafetensorsInfo>& tensors, std::string_view file) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const SafetensorsInfo& t : tensors) names.emplace_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail_file(file, "tensor {} appears twice", shown_name(*twice));
}

}  // namespace

std::string shown_name(std::string_view name) {
  constexpr std::size_t kShown = 200;
  std::string text = "'";
  for (const char c : name.substr(0, kShown)) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (name.size() > kShown) text += "... (" + std::to_string(name.size()) + " bytes)";
  return text + "'";
}

std::uint64_t header_length(std::span<const std::byte> head, std::uint64_t file_size, std::string_view file) {
  if (head.size() < kLengthBytes) {
    fail_file(file, "header length missing: the file has {} bytes, the length alone takes {}", head.size(),
              kLengthBytes);
  }
  std::uint64_t length = 0;
  std::memcpy(&length, head.data(), kLengthBytes);
  if (length > kLargestHeader) {
    fail_file(file, "the header is said to be {} bytes long, more than the limit of {}; is this a safetensors file?",
              length, kLargestHeader);
  }
  if (length > file_size - kLengthBytes) {
    fail_file(file, "the header is said to be {} bytes long, but {} bytes follow (incomplete download?)", length,
              file_size - kLengthBytes);
  }
  return length;
}

SafetensorsHeader parse_header(std::string_view json, std::uint64_t file_size, std::string_view file,
                               const SafetensorsOptions& options) {
  HeaderText text = parse_json(json, file);
  SafetensorsHeader header;
  for (auto& [key, value] : text.metadata) {
    const auto [place, added] = header.metadata.emplace(std::move(key), std::move(value));
    if (!added) fail_file(file, "{}: the key {} appears twice", kMetadataKey, shown_name(place->first));
  }
  check_names(text.tensors, file);
  header.tensors = std::move(text.tensors);
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const auto& a, const auto& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  header.data_begin = kLengthBytes + json.size();
  check_layout(header.tensors, file_size - header.data_begin, file, options);
  return header;
}

}  // namespace safetensors

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> contents, std::string_view file,
                                           const SafetensorsOptions& options) {
  using namespace safetensors;
  const std::uint64_t length =
      header_length(contents.first(std::min<std::size_t>(contents.size(), kLengthBytes)), contents.size(), file);
  const std::string_view json(reinterpret_cast<const char*>(contents.data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  return parse_header(json, contents.size(), file, options);
}

}  // namespace trinix
