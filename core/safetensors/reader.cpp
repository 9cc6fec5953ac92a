#include <algorithm>
#include <array>
#include <numeric>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/safetensors.h>
#include <trinix/core/safetensors/dtypes.h>
#include <trinix/core/safetensors/file.h>
#include <trinix/core/safetensors/header.h>
#include <trinix/core/safetensors/header_text.h>

namespace trinix {

using detail::fail;
using safetensors::shown_name;

struct SafetensorsFile::State {
  explicit State(const std::filesystem::path& path) : file(path) {}

  [[nodiscard]] const SafetensorsInfo* find(std::string_view name) const {
    const auto place = std::lower_bound(by_name.begin(), by_name.end(), name, [this](std::uint32_t i, auto wanted) {
      return header.tensors[i].name < wanted;
    });
    if (place == by_name.end() || header.tensors[*place].name != name) return nullptr;
    return &header.tensors[*place];
  }

  safetensors::InputFile file;
  SafetensorsHeader header;
  std::vector<std::uint32_t> by_name;  // places in header.tensors; the header's limit keeps them below 2^32
};

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path, const SafetensorsOptions& options) {
  using namespace safetensors;
  auto state = std::make_shared<State>(path);
  const InputFile& file = state->file;
  const std::string text = path.string();

  std::array<std::byte, kLengthBytes> head{};
  const std::uint64_t head_bytes = std::min<std::uint64_t>(file.size(), kLengthBytes);
  file.read(head.data(), head_bytes, 0);
  const std::uint64_t length = header_length(std::span(head).first(head_bytes), file.size(), text);
  std::string json(static_cast<std::size_t>(length), '\0');
  file.read(json.data(), length, kLengthBytes);
  state->header = parse_header(json, file.size(), text, options);

  state->by_name.resize(state->header.tensors.size());
  std::iota(state->by_name.begin(), state->by_name.end(), 0U);
  std::sort(state->by_name.begin(), state->by_name.end(), [&](std::uint32_t a, std::uint32_t b) {
    return state->header.tensors[a].name < state->header.tensors[b].name;
  });
  return SafetensorsFile(std::move(state));
}

const std::filesystem::path& SafetensorsFile::path() const { return state_->file.path(); }
const std::vector<SafetensorsInfo>& SafetensorsFile::tensors() const { return state_->header.tensors; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return state_->header.metadata; }
bool SafetensorsFile::contains(std::string_view name) const { return state_->find(name) != nullptr; }

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  names.reserve(tensors().size());
  for (const SafetensorsInfo& t : tensors()) names.push_back(t.name);
  return names;
}

const SafetensorsInfo& SafetensorsFile::info(std::string_view name) const {
  const SafetensorsInfo* found = state_->find(name);
  if (found == nullptr) {
    fail<IndexError>("safetensors", "{}: there is no tensor {} among its {}; names() lists them",
                     shown_name(path().string()), shown_name(name), tensors().size());
  }
  return *found;
}

Tensor SafetensorsFile::read(std::string_view name) const {
  const SafetensorsInfo& t = info(name);
  if (!t.dtype) {
    fail<DtypeError>("safetensors", "{}: tensor {} is {}, which cannot be read; those that can are {}",
                     shown_name(path().string()), shown_name(name), t.dtype_name, safetensors::readable_names());
  }
  if (t.shape.size() > kMaxRank) {
    fail<FormatError>("safetensors", "{}: tensor {} has {} dims, more than the {} that a tensor can have",
                      shown_name(path().string()), shown_name(name), t.shape.size(), kMaxRank);
  }
  const Tensor result = empty(Shape(t.shape), {*t.dtype});
  state_->file.read(result.raw_data(), t.bytes(), state_->header.data_begin + t.begin);
  state_->file.check_unchanged();
  if (*t.dtype == DType::boolean) {
    // A C++ bool holding anything but 0 or 1 is undefined behaviour.
    auto* bytes = static_cast<std::uint8_t*>(result.raw_data());
    std::transform(bytes, bytes + t.bytes(), bytes, [](std::uint8_t b) { return static_cast<std::uint8_t>(b != 0); });
  }
  return result;
}

std::vector<std::pair<std::string, Tensor>> SafetensorsFile::read_all() const {
  std::vector<std::pair<std::string, Tensor>> all;
  all.reserve(tensors().size());
  for (const SafetensorsInfo& t : tensors()) all.emplace_back(t.name, read(t.name));
  return all;
}

}  // namespace trinix
