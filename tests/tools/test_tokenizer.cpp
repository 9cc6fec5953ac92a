#include "temp_folder.h"

#include <chrono>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/tools/lib/tokenizer.h>
#include <trinix/tools/lib/utf8.h>

namespace trinix::tools {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    utf8::append(text, code);
    const utf8::Character c = utf8::decode(text, 0);
    ASSERT_EQ(c.code, code);
    ASSERT_EQ(c.length, text.size());
  }
}

TEST(Utf8, RefusesWhatIsNotUtf8) {
  const char* bad[] = {"\x80",              // a tail alone
                       "\xC0\xAF",          // overlong '/'
                       "\xC1\xBF",          // overlong
                       "\xE0\x80\xAF",      // overlong
                       "\xF0\x80\x80\xAF",  // overlong
                       "\xED\xA0\x80",      // a surrogate
                       "\xF4\x90\x80\x80",  // beyond U+10FFFF
                       "\xF5\x80\x80\x80",
                       "\xFF",
                       "\xC3",
                       "\xE2\x82",
                       "\xF0\x9F\x98",
                       "\xC3(",
                       "\xE2\x28\xA1"};
  for (const char* text : bad) EXPECT_EQ(utf8::decode(text, 0).length, 0U) << text;
}

TEST(CharTokenizer, IsTheSortedSetOfCharacters) {
  const CharTokenizer tokenizer("hello\nworld");
  EXPECT_EQ(tokenizer.vocab_size(), 8);
  EXPECT_THAT(tokenizer.encode("\nhold"), ElementsAre(0, 3, 5, 4, 1));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("hello")), "hello");
}

TEST(CharTokenizer, TakesCharactersOfAnyLength) {
  const std::string text = "aé€😀\r\n\xEF\xBB\xBFz";
  const CharTokenizer tokenizer(text);
  EXPECT_EQ(tokenizer.vocab_size(), 8);
  const auto ids = tokenizer.encode(text);
  EXPECT_EQ(ids.size(), 8U);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.encode("").size(), 0U);
}

TEST(CharTokenizer, NamesTheUnknownCharacterAndItsPlace) {
  const CharTokenizer tokenizer("abc é\n");
  EXPECT_EQ(error_of<TokenizerError>([&] { (void)tokenizer.encode("ab\ncé€"); }),
            "[char tokenizer] U+20AC '€' at byte 6 (line 2, column 3) is not among the 6 characters of the vocabulary");
  EXPECT_THAT(error_of<TokenizerError>([&] { (void)tokenizer.encode(std::string("a\0", 2)); }),
              HasSubstr("U+0000 at byte 1"));
}

TEST(CharTokenizer, RefusesInvalidUtf8AndNothing) {
  EXPECT_EQ(
      error_of<TokenizerError>([] { CharTokenizer tokenizer("caf\xE9 au lait"); }),
      "[char tokenizer] the text is not valid UTF-8: byte 0xe9 at offset 3; convert it, or use the byte tokenizer");
  const CharTokenizer tokenizer("abc");
  EXPECT_THROW((void)tokenizer.encode("ab\xFF"), TokenizerError);
  EXPECT_THROW(CharTokenizer{std::string_view()}, TokenizerError);
}

TEST(CharTokenizer, RefusesIdsOutsideItsVocabulary) {
  const CharTokenizer tokenizer("abc");
  const std::int32_t ids[] = {0, 3};
  EXPECT_EQ(error_of<TokenizerError>([&] { (void)tokenizer.decode(ids); }),
            "[char tokenizer] token id 3 is outside the vocabulary of 3");
  const std::int32_t negative[] = {-1};
  EXPECT_THROW((void)tokenizer.decode(negative), TokenizerError);
}

TEST(ByteTokenizer, TakesAnyBytes) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const ByteTokenizer tokenizer;
  const auto ids = tokenizer.encode(all);
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(ids.back(), 255);
  EXPECT_EQ(tokenizer.decode(ids), all);
  const std::int32_t outside[] = {256};
  EXPECT_THROW((void)tokenizer.decode(outside), TokenizerError);
}

TEST(Tokenizer, ComesBackFromItsJson) {
  const CharTokenizer made("To be, \"or\" not\\ to be\n\t\x01 é€😀");
  const auto again = tokenizer_from_json(made.to_json());
  EXPECT_EQ(again->name(), "char");
  EXPECT_EQ(again->vocab_size(), made.vocab_size());
  EXPECT_EQ(again->encode("be€😀\x01"), made.encode("be€😀\x01"));
  EXPECT_EQ(tokenizer_from_json(ByteTokenizer().to_json())->name(), "byte");
}

TEST(Tokenizer, RefusesADamagedDescription) {
  const auto message = [](const char* json) {
    return error_of<TokenizerError>([&] { (void)tokenizer_from_json(json, "run/tokenizer.json"); });
  };
  EXPECT_THAT(message(""), HasSubstr("'run/tokenizer.json' is not a JSON object"));
  EXPECT_THAT(message("[1"), HasSubstr("not a JSON object"));
  EXPECT_THAT(message("{\"type\": 3}"), HasSubstr("not a JSON object with a \"type\""));
  EXPECT_THAT(message("{\"type\": \"bpe\"}"), HasSubstr("unknown type 'bpe': this version knows char, byte"));
  EXPECT_THAT(message("{\"type\": \"char\"}"), HasSubstr("no list \"vocab\""));
  EXPECT_THAT(message("{\"type\": \"char\", \"vocab\": []}"), HasSubstr("vocabulary is empty"));
  EXPECT_THAT(message("{\"type\": \"char\", \"vocab\": [\"a\", \"bc\"]}"), HasSubstr("entry 1"));
  EXPECT_THAT(message("{\"type\": \"char\", \"vocab\": [\"a\", 7]}"), HasSubstr("entry 1"));
  EXPECT_THAT(message("{\"type\": \"char\", \"vocab\": [\"b\", \"a\"]}"), HasSubstr("ascending order at id 1"));
  EXPECT_THAT(message("{\"type\": \"char\", \"vocab\": [\"a\", \"a\"]}"), HasSubstr("ascending order at id 1"));
}

TEST(Tokenizer, IsMadeByName) {
  EXPECT_EQ(make_tokenizer("char", "abc")->vocab_size(), 3);
  EXPECT_EQ(make_tokenizer("byte", "abc")->vocab_size(), 256);
  EXPECT_EQ(error_of<TokenizerError>([] { (void)make_tokenizer("word", "abc"); }),
            "[tokenizer] there is no tokenizer 'word': choose one of char, byte");
}

TEST(CharTokenizer, IsFast) {
  std::string text;
  while (text.size() < 1'000'000) text += "First Citizen: before we proceed any further, hear me speak.\n";
  const auto start = std::chrono::steady_clock::now();
  const CharTokenizer tokenizer(text);
  const auto ids = tokenizer.encode(text);
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  EXPECT_EQ(ids.size(), text.size());
  RecordProperty("milliseconds", std::to_string(ms));
  // Generous, for a busy machine and the sanitizers; some 4 ms are usual.
  EXPECT_LT(ms, 500);
}

}  // namespace
}  // namespace trinix::tools
