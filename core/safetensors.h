#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Reading and writing of safetensors files (github.com/huggingface/safetensors, "Format" in its README):
///
///   u64 N, little-endian | N bytes of JSON | tensor data, row-major, little-endian
///
/// where the JSON maps each name to {"dtype", "shape", "data_offsets": [begin, end)}, offsets counting from the end of
/// the header. Files come from strangers: nothing in one is believed before it is checked, and everything is checked
/// before the first allocation for a tensor. Messages start with "[safetensors]" and name the file and the tensor.
///
/// Limits: a header of 100,000,000 bytes, dims of at most 2^53, JSON nested at most 128 deep (in fields that the format
/// does not define, which are passed over). A tensor of more than 8 dims, or of a dtype that the library does not have,
/// is listed but cannot be read.

namespace trinix {

/// One tensor as its file describes it.
struct SafetensorsInfo {
  std::string name;
  std::string_view dtype_name;      ///< as the format writes it: "F32", "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;       ///< nothing when the library has no such dtype
  std::vector<std::int64_t> shape;  ///< of any rank
  std::uint64_t begin = 0;          ///< first byte, counted from the end of the header
  std::uint64_t end = 0;            ///< one past the last byte

  [[nodiscard]] std::uint64_t bytes() const { return end - begin; }
};

/// What a file's header says.
struct SafetensorsHeader {
  std::vector<SafetensorsInfo> tensors;         ///< in the order of their data
  std::map<std::string, std::string> metadata;  ///< "__metadata__", without which it is empty
  std::uint64_t data_begin = 0;                 ///< where in the file the data begins
};

struct SafetensorsOptions {
  /// Accept bytes after the last tensor. Some published files have them; they may also mean a damaged header.
  bool ignore_trailing_bytes = false;
};

/// Checks a whole file that lies in memory, and returns its header. `file` is only named in errors.
/// @throws FormatError.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> contents, std::string_view file,
                                                         const SafetensorsOptions& options = {});

/// An open file. Copies share it; reading is safe from several threads.
///
/// Tensors are read, not mapped: a file that is cut or replaced under a mapping kills the process with SIGBUS, here it
/// is an IoError.
class SafetensorsFile {
 public:
  /// Opens the file and checks all of its header. @throws IoError with the system's text, also for anything that is not
  /// a regular file; FormatError.
  [[nodiscard]] static SafetensorsFile open(const std::filesystem::path& path, const SafetensorsOptions& options = {});

  [[nodiscard]] const std::filesystem::path& path() const;
  /// In the order of their data.
  [[nodiscard]] const std::vector<SafetensorsInfo>& tensors() const;
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] bool contains(std::string_view name) const;
  /// @throws IndexError when there is no such tensor.
  [[nodiscard]] const SafetensorsInfo& info(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;

  /// A new tensor on the CPU. Bytes of a BOOL tensor other than 0 count as true; NaN and infinity are taken as they
  /// are.
  /// @throws IndexError when there is no such tensor, DtypeError when the library has no such dtype, FormatError for
  /// more than 8 dims, IoError when the file cannot be read or has changed since it was opened, OutOfMemory.
  [[nodiscard]] Tensor read(std::string_view name) const;
  /// All of them, in the order of their data. @throws as read().
  [[nodiscard]] std::vector<std::pair<std::string, Tensor>> read_all() const;

 private:
  struct State;
  explicit SafetensorsFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  std::shared_ptr<const State> state_;
};

/// Writes the strict form of the format, byte for byte what the reference implementation writes: the header begins with
/// '{' and is padded with spaces to a multiple of 8; tensors are ordered by descending size of dtype, then by name.
/// `{"format": "pt"}` is added to the metadata unless it has a "format".
///
/// The file appears at once or not at all: a sibling temporary file is written, synced and renamed, and the folder
/// synced. Tensors may have any strides and lie on any device.
/// @throws FormatError for a name that is empty, given twice, reserved or not UTF-8, for metadata that is not UTF-8,
/// and for a header over the limit; IoError, and then what was there before is as it was.
void save_safetensors(const std::filesystem::path& path, std::span<const std::pair<std::string, Tensor>> tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace trinix
