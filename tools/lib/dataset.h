#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/core/error.h>
#include <trinix/tools/lib/mapped_file.h>
#include <trinix/tools/lib/tokenizer.h>

/// @file
/// What a language model trains on: one long run of token ids, cut into a training and a validation part.

namespace trinix::tools {

/// Data that cannot be trained on: empty, binary, too short, of odd length, with an id outside the vocabulary.
class DataError : public FormatError {
  using FormatError::FormatError;
};

/// Read-only token ids, 16 or 32 bits wide.
class TokenRange {
 public:
  TokenRange() = default;
  TokenRange(std::span<const std::uint16_t> ids) : narrow_(ids.data()), size_(std::ssize(ids)) {}
  TokenRange(std::span<const std::int32_t> ids) : wide_(ids.data()), size_(std::ssize(ids)) {}

  [[nodiscard]] std::int64_t size() const { return size_; }
  [[nodiscard]] std::int32_t operator[](std::int64_t i) const { return narrow_ != nullptr ? narrow_[i] : wide_[i]; }
  [[nodiscard]] TokenRange subrange(std::int64_t first, std::int64_t count) const;

 private:
  const std::uint16_t* narrow_ = nullptr;
  const std::int32_t* wide_ = nullptr;
  std::int64_t size_ = 0;
};

/// Which part of the data.
enum class Split { train, validation };

/// 64 uniformly random bits as a pure function of a position: a counter-based generator (Philox, for one) under a seed.
/// Because nothing is consumed, the position in the data is a number, and a resumed run draws what the first would
/// have.
using CounterBits = std::function<std::uint64_t(std::uint64_t position)>;

struct DataSetOptions {
  /// A UTF-8 text, or nanoGPT's flat little-endian uint16 `.bin`. Empty: this repository's source text.
  std::string path = {};
  /// Kind of tokenizer to make from the text. A `.bin` holds ids already and uses `tokenizer.json` beside it, if any.
  std::string tokenizer = "char";
  /// A tokenizer to use instead of a new one, as when a run goes on or a model is evaluated on another text.
  std::shared_ptr<const Tokenizer> given = nullptr;
  /// Size of the vocabulary of a `.bin` where there is no tokenizer; 0 takes its largest id plus one.
  std::int64_t vocab_size = 0;
  /// The first part trains, the rest validates. A `train.bin` with a `val.bin` beside it uses that instead.
  double train_fraction = 0.9;
};

/// Token ids in memory (a text, tokenized once) or mapped from a file (a `.bin`, without a copy).
class DataSet {
 public:
  /// @throws IoError, DataError, TokenizerError; each names the file
  static DataSet load(const DataSetOptions& options);
  /// @param name what errors call the text
  static DataSet from_text(std::string_view text, std::shared_ptr<const Tokenizer> tokenizer, std::string name,
                           double train_fraction = 0.9);

  [[nodiscard]] TokenRange range(Split split) const { return split == Split::train ? train_ : validation_; }
  [[nodiscard]] std::int64_t vocab_size() const { return vocab_size_; }
  /// Null for a `.bin` without a `tokenizer.json`.
  [[nodiscard]] const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }
  /// One line for the log: "input.txt: 1003854 tokens to train, 111540 to validate, vocabulary of 65 (char)".
  [[nodiscard]] std::string describe() const;

  /// @throws DataError unless each part holds one block and the token after it
  void require_block(std::int64_t block) const;

  /// Fills rows of `block` ids at random offsets, drawn with replacement; the targets are the ids one further on.
  /// Row r uses bits(first_position + r), so step s of a run passes s * rows.
  /// @param inputs,targets rows * block ids each, row-major; Id is std::int32_t or std::int64_t
  template <class Id>
  void random_batch(Split split, std::int64_t block, const CounterBits& bits, std::uint64_t first_position,
                    std::span<Id> inputs, std::span<Id> targets) const;

  /// Number of batches of `rows` rows in which sequential_batch() goes through a part once.
  [[nodiscard]] std::int64_t sequential_batches(Split split, std::int64_t block, std::int64_t rows) const;

  /// The `index`th batch of a pass in which every token but the first is a target exactly once: adjacent windows of
  /// `block` ids. What the last batch has too much gets id 0 and the target `ignored`.
  /// @returns how many targets are real; the weight of this batch's mean in the mean over the whole part
  template <class Id>
  std::int64_t sequential_batch(Split split, std::int64_t block, std::int64_t index, std::span<Id> inputs,
                                std::span<Id> targets, Id ignored = -100) const;

 private:
  DataSet() = default;
  static DataSet from_bin(const DataSetOptions& options);
  void split_at(double train_fraction);

  std::string name_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::int64_t vocab_size_ = 0;
  std::vector<std::uint16_t> narrow_;
  std::vector<std::int32_t> wide_;
  MappedFile file_;
  MappedFile validation_file_;
  TokenRange train_;
  TokenRange validation_;
};

}  // namespace trinix::tools
