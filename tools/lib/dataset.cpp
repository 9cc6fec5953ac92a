#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>

#include <trinix/core/detail/fail.h>
#include <trinix/tools/lib/dataset.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/source_text.h>

namespace trinix::tools {

namespace fs = std::filesystem;

namespace {

static_assert(std::endian::native == std::endian::little, "a .bin is mapped as it lies in the file");

/// An error of the tokenizer, with the file's name put in front.
[[noreturn]] void rethrow_with_name(const TokenizerError& error, const std::string& name) {
  std::string_view text = error.what();
  const std::size_t bracket = text.find("] ");
  if (bracket != std::string_view::npos) text.remove_prefix(bracket + 2);
  detail::fail<TokenizerError>("data", "'{}': {}", name, text);
}

/// The ids of a mapped .bin. @throws DataError
TokenRange ids_of(const MappedFile& file, const fs::path& path) {
  const std::string_view bytes = file.bytes();
  if (bytes.empty()) detail::fail<DataError>("data", "'{}' is empty", path.string());
  if (bytes.size() % 2 != 0) {
    detail::fail<DataError>("data", "'{}' has {} bytes: a .bin is a list of 16-bit ids, so the count must be even",
                            path.string(), bytes.size());
  }
  return std::span(reinterpret_cast<const std::uint16_t*>(bytes.data()), bytes.size() / 2);
}

std::int32_t largest_id(const TokenRange& range) {
  std::int32_t largest = 0;
  for (std::int64_t i = 0; i < range.size(); ++i) largest = std::max(largest, range[i]);
  return largest;
}

void check_ids(const TokenRange& range, std::int64_t vocab_size, const std::string& name) {
  if (largest_id(range) < vocab_size) return;
  for (std::int64_t i = 0; i < range.size(); ++i) {
    if (range[i] >= vocab_size) {
      detail::fail<DataError>("data", "'{}' has the token id {} at offset {}, and the vocabulary is {}", name, range[i],
                              i, vocab_size);
    }
  }
}

/// A uniform number in [0, count) from 64 random bits: the high word of their product (Lemire, 2019). Without his
/// rejection step the bias is below count / 2^64.
std::int64_t scale_to(std::uint64_t bits, std::int64_t count) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::int64_t>(static_cast<Wide>(bits) * static_cast<std::uint64_t>(count) >> 64);
}

}  // namespace

TokenRange TokenRange::subrange(std::int64_t first, std::int64_t count) const {
  const auto from = static_cast<std::size_t>(first);
  const auto length = static_cast<std::size_t>(count);
  if (narrow_ != nullptr) return std::span(narrow_ + from, length);
  return std::span(wide_ + from, length);
}

DataSet DataSet::load(const DataSetOptions& options) {
  if (fs::path(options.path).extension() == ".bin") return from_bin(options);
  MappedFile file;
  SourceText source;
  std::string_view text;
  std::string name = options.path;
  if (options.path.empty()) {
    source = read_source_text();
    text = source.text;
    name = detail::format("the source text of this repository ({} files)", source.files);
  } else {
    file = MappedFile(options.path);
    text = file.bytes();
  }
  const std::string_view kind = options.given ? options.given->name() : std::string_view(options.tokenizer);
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos && kind != "byte") {
    detail::fail<DataError>("data",
                            "'{}' is binary or UTF-16, not UTF-8 text (NUL byte at offset {}): give a text, a .bin of "
                            "token ids, or use the byte tokenizer",
                            name, nul);
  }
  if (text.empty()) detail::fail<DataError>("data", "'{}' is empty", name);
  std::shared_ptr<const Tokenizer> tokenizer = options.given;
  try {
    if (!tokenizer) tokenizer = make_tokenizer(options.tokenizer, text);
  } catch (const TokenizerError& error) {
    rethrow_with_name(error, name);
  }
  return from_text(text, std::move(tokenizer), std::move(name), options.train_fraction);
}

DataSet DataSet::from_text(std::string_view text, std::shared_ptr<const Tokenizer> tokenizer, std::string name,
                           double train_fraction) {
  if (text.empty()) detail::fail<DataError>("data", "'{}' is empty", name);
  DataSet data;
  data.name_ = std::move(name);
  std::vector<std::int32_t> ids;
  try {
    ids = tokenizer->encode(text);
  } catch (const TokenizerError& error) {
    rethrow_with_name(error, data.name_);
  }
  data.vocab_size_ = tokenizer->vocab_size();
  data.tokenizer_ = std::move(tokenizer);
  if (data.vocab_size_ <= std::numeric_limits<std::uint16_t>::max() + 1) {
    data.narrow_.assign(ids.begin(), ids.end());
    data.train_ = std::span<const std::uint16_t>(data.narrow_);
  } else {
    data.wide_ = std::move(ids);
    data.train_ = std::span<const std::int32_t>(data.wide_);
  }
  data.split_at(train_fraction);
  return data;
}

DataSet DataSet::from_bin(const DataSetOptions& options) {
  const fs::path path = options.path;
  DataSet data;
  data.name_ = options.path;
  data.file_ = MappedFile(path);
  data.train_ = ids_of(data.file_, path);
  const fs::path validation_path = path.parent_path() / "val.bin";
  const bool has_validation = path.filename() == "train.bin" && fs::exists(validation_path);
  if (has_validation) {
    data.validation_file_ = MappedFile(validation_path);
    data.validation_ = ids_of(data.validation_file_, validation_path);
    data.name_ += " and val.bin";
  }
  data.tokenizer_ = options.given;
  const fs::path description = path.parent_path() / "tokenizer.json";
  if (!data.tokenizer_ && fs::exists(description)) {
    data.tokenizer_ = tokenizer_from_json(read_file(description), description.string());
  }
  if (data.tokenizer_) {
    data.vocab_size_ = data.tokenizer_->vocab_size();
  } else if (options.vocab_size > 0) {
    data.vocab_size_ = options.vocab_size;
  } else {
    data.vocab_size_ = 1 + std::max(largest_id(data.train_), largest_id(data.validation_));
  }
  check_ids(data.train_, data.vocab_size_, path.string());
  check_ids(data.validation_, data.vocab_size_, validation_path.string());
  if (!has_validation) data.split_at(options.train_fraction);
  return data;
}

void DataSet::split_at(double train_fraction) {
  if (!(train_fraction > 0 && train_fraction < 1)) {
    detail::fail<ConfigError>("data", "the fraction of the data that trains must lie between 0 and 1, not be {}",
                              train_fraction);
  }
  const TokenRange all = train_;
  const auto cut = static_cast<std::int64_t>(std::floor(static_cast<double>(all.size()) * train_fraction));
  train_ = all.subrange(0, cut);
  validation_ = all.subrange(cut, all.size() - cut);
}

std::string DataSet::describe() const {
  return detail::format("{}: {} tokens to train, {} to validate, vocabulary of {} ({})", name_, train_.size(),
                        validation_.size(), vocab_size_, tokenizer_ ? tokenizer_->name() : std::string_view("ids"));
}

void DataSet::require_block(std::int64_t block) const {
  if (block < 1) detail::fail<ConfigError>("data", "a block must be at least 1 token, not {}", block);
  const std::int64_t shortest = std::min(train_.size(), validation_.size());
  if (shortest > block) return;
  detail::fail<DataError>(
      "data",
      "'{}' is too short: {} tokens to train and {} to validate, and a block of {} needs {} of each; "
      "give a longer text or a smaller block",
      name_, train_.size(), validation_.size(), block, block + 1);
}

template <class Id>
void DataSet::random_batch(Split split, std::int64_t block, const CounterBits& bits, std::uint64_t first_position,
                           std::span<Id> inputs, std::span<Id> targets) const {
  require_block(block);
  const TokenRange ids = range(split);
  const std::int64_t rows = std::ssize(inputs) / block;
  if (inputs.size() != targets.size() || rows * block != std::ssize(inputs)) {
    detail::fail<ShapeError>("data", "a batch of blocks of {} cannot have {} inputs and {} targets", block,
                             inputs.size(), targets.size());
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t start = scale_to(bits(first_position + static_cast<std::uint64_t>(row)), ids.size() - block);
    Id* x = inputs.data() + row * block;
    Id* y = targets.data() + row * block;
    for (std::int64_t i = 0; i < block; ++i) {
      x[i] = ids[start + i];
      y[i] = ids[start + i + 1];
    }
  }
}

std::int64_t DataSet::sequential_batches(Split split, std::int64_t block, std::int64_t rows) const {
  const std::int64_t tokens_per_batch = block * rows;
  if (block < 1 || rows < 1) detail::fail<ConfigError>("data", "a batch needs at least one row and one token");
  return (std::max<std::int64_t>(0, range(split).size() - 1) + tokens_per_batch - 1) / tokens_per_batch;
}

template <class Id>
std::int64_t DataSet::sequential_batch(Split split, std::int64_t block, std::int64_t index, std::span<Id> inputs,
                                       std::span<Id> targets, Id ignored) const {
  const TokenRange ids = range(split);
  const std::int64_t count = std::ssize(inputs);
  if (block < 1 || inputs.size() != targets.size() || count % block != 0 || count == 0) {
    detail::fail<ShapeError>("data", "a batch of blocks of {} cannot have {} inputs and {} targets", block,
                             inputs.size(), targets.size());
  }
  if (index < 0 || index >= sequential_batches(split, block, count / block)) {
    detail::fail<IndexError>("data", "there is no batch {} of {} in a pass", index,
                             sequential_batches(split, block, count / block));
  }
  // Adjacent windows are adjacent in the data, so a batch is one stretch of it.
  const std::int64_t start = index * count;
  const std::int64_t real = std::min(count, ids.size() - 1 - start);
  for (std::int64_t i = 0; i < real; ++i) {
    inputs[static_cast<std::size_t>(i)] = ids[start + i];
    targets[static_cast<std::size_t>(i)] = ids[start + i + 1];
  }
  std::fill(inputs.begin() + real, inputs.end(), Id{0});
  std::fill(targets.begin() + real, targets.end(), ignored);
  return real;
}

template void DataSet::random_batch(Split, std::int64_t, const CounterBits&, std::uint64_t, std::span<std::int32_t>,
                                    std::span<std::int32_t>) const;
template void DataSet::random_batch(Split, std::int64_t, const CounterBits&, std::uint64_t, std::span<std::int64_t>,
                                    std::span<std::int64_t>) const;
template std::int64_t DataSet::sequential_batch(Split, std::int64_t, std::int64_t, std::span<std::int32_t>,
                                                std::span<std::int32_t>, std::int32_t) const;
template std::int64_t DataSet::sequential_batch(Split, std::int64_t, std::int64_t, std::span<std::int64_t>,
                                                std::span<std::int64_t>, std::int64_t) const;

}  // namespace trinix::tools
