#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/core/error.h>

/// @file
/// Text to token ids and back.

namespace trinix::tools {

/// A text that a tokenizer cannot take, an id it does not have, or a damaged description of one.
class TokenizerError : public FormatError {
  using FormatError::FormatError;
};

/// Turns text into token ids in [0, vocab_size()) and back. Immutable, so threads may share one.
/// A new kind is a class and a line each in make_tokenizer() and tokenizer_from_json().
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// "char", "byte": what `--tokenizer` takes.
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::int64_t vocab_size() const = 0;

  /// @throws TokenizerError naming the character and its position where the vocabulary lacks it
  [[nodiscard]] virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;

  /// Inverse of encode(). The bytes of one id alone need not be whole characters; those of all ids together are what
  /// was encoded. @throws TokenizerError naming the id that is outside the vocabulary
  [[nodiscard]] virtual std::string decode(std::span<const std::int32_t> ids) const = 0;

  /// A JSON object with which tokenizer_from_json() makes the same tokenizer again.
  [[nodiscard]] virtual std::string to_json() const = 0;
};

/// One token per Unicode code point that occurs in a text; ids follow the order of code points. On plain text this is
/// nanoGPT's character vocabulary (prepare.py of shakespeare_char): the sorted set of characters.
///
/// Text must be valid UTF-8: mapping stray bytes to characters of their own would silently give another vocabulary than
/// the same text read elsewhere. ByteTokenizer takes any bytes.
class CharTokenizer final : public Tokenizer {
 public:
  /// The vocabulary of a text. @throws TokenizerError for an empty text, or naming the first byte that is no UTF-8
  explicit CharTokenizer(std::string_view text);
  /// @throws TokenizerError unless the characters are in strictly ascending order
  explicit CharTokenizer(std::u32string vocabulary);

  [[nodiscard]] std::string_view name() const override { return "char"; }
  [[nodiscard]] std::int64_t vocab_size() const override { return static_cast<std::int64_t>(vocabulary_.size()); }
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const override;
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids) const override;
  [[nodiscard]] std::string to_json() const override;

 private:
  void build_table();

  std::u32string vocabulary_;             // by id
  std::vector<std::int32_t> id_of_code_;  // by code point, -1 where there is none; as long as the largest one needs
};

/// One token per byte: 256 ids, any input, no loss.
class ByteTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::string_view name() const override { return "byte"; }
  [[nodiscard]] std::int64_t vocab_size() const override { return 256; }
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const override;
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids) const override;
  [[nodiscard]] std::string to_json() const override;
};

/// The names that make_tokenizer() knows, for help and errors: "char, byte".
[[nodiscard]] std::string tokenizer_names();
[[nodiscard]] bool is_tokenizer_name(std::string_view name);

/// A tokenizer of that name for that text. @throws TokenizerError for an unknown name, listing the known ones
[[nodiscard]] std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name, std::string_view text);

/// @param source the file it came from, for the error's text
/// @throws TokenizerError saying what is wrong with the description
[[nodiscard]] std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view json,
                                                             std::string_view source = "tokenizer");

}  // namespace trinix::tools
