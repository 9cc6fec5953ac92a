#include <algorithm>
#include <nlohmann/json.hpp>

#include <trinix/core/detail/fail.h>
#include <trinix/tools/lib/tokenizer.h>
#include <trinix/tools/lib/utf8.h>

namespace trinix::tools {

namespace {

constexpr char32_t kCodePoints = 0x110000;

[[noreturn]] void fail_utf8(std::string_view text, std::size_t position) {
  detail::fail<TokenizerError>(
      "char tokenizer",
      "the text is not valid UTF-8: byte 0x{:02x} at offset {}; convert it, or use the byte tokenizer",
      static_cast<unsigned>(static_cast<unsigned char>(text[position])), position);
}

[[noreturn]] void fail_id(std::string_view op, std::int32_t id, std::int64_t vocab_size) {
  detail::fail<TokenizerError>(op, "token id {} is outside the vocabulary of {}", id, vocab_size);
}

/// Calls f(code point, byte offset) for each character.
template <class F>
void for_each_character(std::string_view text, F&& f) {
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      f(static_cast<char32_t>(text[i]), i);
      ++i;
      continue;
    }
    const utf8::Character c = utf8::decode(text, i);
    if (c.length == 0) fail_utf8(text, i);
    f(c.code, i);
    i += c.length;
  }
}

/// "line 3, column 7", counted from 1 in characters, which is what editors show.
std::string place_of(std::string_view text, std::size_t position) {
  const std::string_view before = text.substr(0, position);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  std::int64_t column = 1;
  for_each_character(before.substr(start), [&](char32_t, std::size_t) { ++column; });
  return detail::format("line {}, column {}", static_cast<std::int64_t>(line), column);
}

}  // namespace

CharTokenizer::CharTokenizer(std::string_view text) {
  if (text.empty()) detail::fail<TokenizerError>("char tokenizer", "an empty text has no characters");
  std::vector<bool> seen(kCodePoints);
  bool seen_ascii[128] = {};
  for_each_character(text, [&](char32_t code, std::size_t) {
    if (code < 128) {
      seen_ascii[code] = true;
    } else {
      seen[code] = true;
    }
  });
  for (char32_t code = 0; code < kCodePoints; ++code) {
    if (code < 128 ? seen_ascii[code] : seen[code]) vocabulary_ += code;
  }
  build_table();
}

CharTokenizer::CharTokenizer(std::u32string vocabulary) : vocabulary_(std::move(vocabulary)) {
  for (std::size_t i = 1; i < vocabulary_.size(); ++i) {
    if (vocabulary_[i - 1] >= vocabulary_[i]) {
      detail::fail<TokenizerError>("char tokenizer", "the vocabulary is not in ascending order at id {}: {} after {}",
                                   i, utf8::describe(vocabulary_[i]), utf8::describe(vocabulary_[i - 1]));
    }
  }
  if (vocabulary_.empty()) detail::fail<TokenizerError>("char tokenizer", "the vocabulary is empty");
  build_table();
}

void CharTokenizer::build_table() {
  id_of_code_.assign(std::max<std::size_t>(128, vocabulary_.back() + 1), -1);
  for (std::size_t id = 0; id < vocabulary_.size(); ++id) {
    id_of_code_[vocabulary_[id]] = static_cast<std::int32_t>(id);
  }
}

std::vector<std::int32_t> CharTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids(text.size());
  std::size_t count = 0;
  for_each_character(text, [&](char32_t code, std::size_t offset) {
    const std::int32_t id = code < id_of_code_.size() ? id_of_code_[code] : -1;
    if (id < 0) {
      detail::fail<TokenizerError>("char tokenizer",
                                   "{} at byte {} ({}) is not among the {} characters of the vocabulary",
                                   utf8::describe(code), offset, place_of(text, offset), vocab_size());
    }
    ids[count++] = id;
  });
  ids.resize(count);
  return ids;
}

std::string CharTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) fail_id("char tokenizer", id, vocab_size());
    utf8::append(text, vocabulary_[static_cast<std::size_t>(id)]);
  }
  return text;
}

std::string CharTokenizer::to_json() const {
  nlohmann::ordered_json json;
  json["type"] = name();
  auto& list = json["vocab"] = nlohmann::ordered_json::array();
  for (const char32_t code : vocabulary_) {
    std::string text;
    utf8::append(text, code);
    list.push_back(std::move(text));
  }
  return json.dump();
}

std::vector<std::int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids(text.size());
  std::transform(text.begin(), text.end(), ids.begin(), [](char c) { return static_cast<unsigned char>(c); });
  return ids;
}

std::string ByteTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text(ids.size(), '\0');
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] > 255) fail_id("byte tokenizer", ids[i], vocab_size());
    text[i] = static_cast<char>(static_cast<unsigned char>(ids[i]));
  }
  return text;
}

std::string ByteTokenizer::to_json() const { return R"({"type":"byte"})"; }

std::string tokenizer_names() { return "char, byte"; }
bool is_tokenizer_name(std::string_view name) { return name == "char" || name == "byte"; }

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name, std::string_view text) {
  if (name == "char") return std::make_unique<CharTokenizer>(text);
  if (name == "byte") return std::make_unique<ByteTokenizer>();
  detail::fail<TokenizerError>("tokenizer", "there is no tokenizer '{}': choose one of {}", name, tokenizer_names());
}

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view json, std::string_view source) {
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("type") || !parsed["type"].is_string()) {
    detail::fail<TokenizerError>("tokenizer", "'{}' is not a JSON object with a \"type\"", source);
  }
  const auto type = parsed["type"].get<std::string>();
  if (type == "byte") return std::make_unique<ByteTokenizer>();
  if (type != "char") {
    detail::fail<TokenizerError>("tokenizer", "'{}' has the unknown type '{}': this version knows {}", source, type,
                                 tokenizer_names());
  }
  if (!parsed.contains("vocab") || !parsed["vocab"].is_array()) {
    detail::fail<TokenizerError>("tokenizer", "'{}' has no list \"vocab\"", source);
  }
  std::u32string vocabulary;
  for (const auto& entry : parsed["vocab"]) {
    const std::string text = entry.is_string() ? entry.get<std::string>() : "";
    const utf8::Character c = text.empty() ? utf8::Character{} : utf8::decode(text, 0);
    if (c.length == 0 || c.length != text.size()) {
      detail::fail<TokenizerError>("tokenizer", "entry {} of the vocabulary in '{}' is not one character",
                                   vocabulary.size(), source);
    }
    vocabulary += c.code;
  }
  return std::make_unique<CharTokenizer>(std::move(vocabulary));
}

}  // namespace trinix::tools
