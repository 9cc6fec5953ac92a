#include "temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

#include <trinix/tools/lib/dataset.h>
#include <trinix/tools/lib/source_text.h>

namespace trinix::tools {
namespace {

using test::error_of;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// SplitMix64 (Steele, Lea and Flood, 2014): well mixed bits from a counter.
std::uint64_t mix(std::uint64_t position) {
  std::uint64_t z = (position + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
  z = (z ^ z >> 27) * 0x94D049BB133111EBU;
  return z ^ z >> 31;
}

std::string bin_of(std::initializer_list<int> ids) {
  std::string bytes;
  for (const int id : ids) {
    bytes += static_cast<char>(id & 0xFF);
    bytes += static_cast<char>(id >> 8);
  }
  return bytes;
}

DataSet digits(std::int64_t count) {
  std::string text;
  for (std::int64_t i = 0; i < count; ++i) text += static_cast<char>('0' + i % 10);
  return DataSet::from_text(text, std::make_shared<CharTokenizer>(text), "digits");
}

TEST(DataSet, SplitsATextAsNanoGptDoes) {
  TempFolder folder;
  std::string text;
  for (int i = 0; i < 1115; ++i) text += static_cast<char>('a' + i % 26);
  const DataSet data = DataSet::load({.path = folder.add("input.txt", text)});
  EXPECT_EQ(data.vocab_size(), 26);
  EXPECT_EQ(data.range(Split::train).size(), 1003);  // int(1115 * 0.9)
  EXPECT_EQ(data.range(Split::validation).size(), 112);
  EXPECT_EQ(data.range(Split::validation)[0], 1003 % 26);
  EXPECT_EQ(data.tokenizer()->name(), "char");
  EXPECT_THAT(data.describe(), HasSubstr("1003 tokens to train, 112 to validate, vocabulary of 26 (char)"));
}

TEST(DataSet, ReadsABinWithoutChangingIt) {
  TempFolder folder;
  const auto path = folder.add("data.bin", bin_of({1, 2, 3, 65535, 5, 6, 7, 8, 9, 10}));
  const DataSet data = DataSet::load({.path = path});
  EXPECT_EQ(data.vocab_size(), 65536);
  EXPECT_EQ(data.range(Split::train).size(), 9);
  EXPECT_EQ(data.range(Split::train)[3], 65535);
  EXPECT_EQ(data.range(Split::validation)[0], 10);
  EXPECT_EQ(data.tokenizer(), nullptr);
  EXPECT_EQ(DataSet::load({.path = path, .vocab_size = 70000}).vocab_size(), 70000);
}

TEST(DataSet, UsesWhatLiesBesideATrainBin) {
  TempFolder folder;
  folder.add("val.bin", bin_of({2, 1, 0}));
  folder.add("tokenizer.json", CharTokenizer("abcd").to_json());
  const DataSet data = DataSet::load({.path = folder.add("train.bin", bin_of({0, 1, 2, 3}))});
  EXPECT_EQ(data.range(Split::train).size(), 4);
  EXPECT_EQ(data.range(Split::validation).size(), 3);
  EXPECT_EQ(data.vocab_size(), 4);
  EXPECT_EQ(data.tokenizer()->name(), "char");
}

TEST(DataSet, RefusesAnIdOutsideTheVocabulary) {
  TempFolder folder;
  const auto path = folder.add("data.bin", bin_of({1, 2, 50300, 4}));
  EXPECT_EQ(error_of<DataError>([&] { (void)DataSet::load({.path = path, .vocab_size = 50257}); }),
            "[data] '" + path.string() + "' has the token id 50300 at offset 2, and the vocabulary is 50257");
}

TEST(DataSet, RefusesBadFiles) {
  TempFolder folder;
  const auto message = [&](const char* name, std::string_view bytes) {
    const auto path = folder.add(name, bytes);
    return error_of<DataError>([&] { (void)DataSet::load({.path = path}); });
  };
  EXPECT_THAT(message("a.txt", ""), AllOf(HasSubstr("a.txt' is empty")));
  EXPECT_THAT(message("a.bin", ""), AllOf(HasSubstr("a.bin' is empty")));
  EXPECT_THAT(message("b.bin", "abc"), AllOf(HasSubstr("b.bin' has 3 bytes"), HasSubstr("must be even")));
  EXPECT_THAT(message("b.txt", std::string_view("ELF\0\1", 5)),
              AllOf(HasSubstr("b.txt' is binary"), HasSubstr("NUL byte at offset 3")));
  const auto latin = folder.add("latin.txt", "caf\xE9 au lait");
  EXPECT_THAT(error_of<TokenizerError>([&] { (void)DataSet::load({.path = latin}); }),
              AllOf(HasSubstr("latin.txt': the text is not valid UTF-8"), HasSubstr("offset 3")));
  EXPECT_THAT(error_of<IoError>([&] { (void)DataSet::load({.path = folder / "missing.txt"}); }),
              AllOf(HasSubstr("missing.txt'"), HasSubstr("No such file or directory")));
  EXPECT_THAT(error_of<IoError>([&] { (void)DataSet::load({.path = folder.path()}); }), HasSubstr("Is a directory"));
  EXPECT_THAT(error_of<IoError>([] { (void)DataSet::load({.path = "/dev/zero"}); }), HasSubstr("not a regular file"));
}

TEST(DataSet, TakesAnyBytesWithTheByteTokenizer) {
  TempFolder folder;
  const auto path = folder.add("x.dat", std::string_view("\0\1\2\xFF\0\0\0\0\0\0", 10));
  const DataSet data = DataSet::load({.path = path, .tokenizer = "byte"});
  EXPECT_EQ(data.vocab_size(), 256);
  EXPECT_EQ(data.range(Split::train)[3], 255);
}

TEST(DataSet, UsesTheTokenizerItIsGiven) {
  TempFolder folder;
  const auto tokenizer = std::make_shared<CharTokenizer>("abcdefgh");
  const auto path = folder.add("a.txt", "hhhhhhhhhhhhhhhhhhhh");
  EXPECT_EQ(DataSet::load({.path = path, .given = tokenizer}).range(Split::train)[0], 7);
  folder.add("a.txt", "hhhz");
  EXPECT_THAT(error_of<TokenizerError>([&] { (void)DataSet::load({.path = path, .given = tokenizer}); }),
              AllOf(HasSubstr("a.txt'"), HasSubstr("U+007A 'z' at byte 3")));
}

TEST(DataSet, RefusesATextShorterThanABlock) {
  const DataSet data = digits(100);
  EXPECT_NO_THROW(data.require_block(9));
  EXPECT_EQ(error_of<DataError>([&] { data.require_block(10); }),
            "[data] 'digits' is too short: 90 tokens to train and 10 to validate, and a block of 10 needs 11 of each; "
            "give a longer text or a smaller block");
  EXPECT_THROW(data.require_block(0), ConfigError);
}

TEST(DataSet, RandomBatchesShiftTargetsByOne) {
  const DataSet data = digits(1000);
  std::vector<std::int64_t> x(8 * 16);
  std::vector<std::int64_t> y(8 * 16);
  data.random_batch<std::int64_t>(Split::train, 16, mix, 0, x, y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(y[i], (x[i] + 1) % 10);
    EXPECT_TRUE(i % 16 == 15 || x[i + 1] == y[i]) << i;
  }
}

TEST(DataSet, RandomBatchesDependOnThePositionAlone) {
  const DataSet data = digits(1000);
  const auto rows = [&](std::uint64_t first, std::size_t count) {
    std::vector<std::int32_t> x(count * 8);
    std::vector<std::int32_t> y(count * 8);
    data.random_batch<std::int32_t>(Split::train, 8, mix, first, x, y);
    return x;
  };
  const auto all = rows(0, 6);
  const auto tail = rows(2, 4);
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), all.begin() + 16));
}

TEST(DataSet, RandomOffsetsReachBothEndsEvenly) {
  const std::string text = "0123456789abcdefghijKKKKKKKKKKKKKKKKKKKK";
  const DataSet data = DataSet::from_text(text, std::make_shared<ByteTokenizer>(), "t", 0.5);
  std::map<std::int32_t, int> starts;
  std::vector<std::int32_t> x(10);
  std::vector<std::int32_t> y(10);
  for (std::uint64_t i = 0; i < 10000; ++i) {
    data.random_batch<std::int32_t>(Split::train, 10, mix, i, x, y);
    ++starts[x[0]];
  }
  // 20 tokens and blocks of 10 with the token after them: offsets 0 to 9.
  ASSERT_EQ(starts.size(), 10U);
  for (const auto& [start, count] : starts) EXPECT_NEAR(count, 1000, 150) << start;
}

TEST(DataSet, AFullPassSeesEveryTargetOnce) {
  for (const std::int64_t size : {2, 7, 8, 9, 33, 64, 65, 66}) {
    std::string text(static_cast<std::size_t>(size), 'x');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('0' + i);
    // The validation part is what follows the first token.
    const DataSet data =
        DataSet::from_text("0" + text, std::make_shared<ByteTokenizer>(), "t", 1.5 / static_cast<double>(size + 1));
    ASSERT_EQ(data.range(Split::validation).size(), size);
    std::vector<std::int64_t> x(4 * 8);
    std::vector<std::int64_t> y(4 * 8);
    std::int64_t next = 1;
    const std::int64_t batches = data.sequential_batches(Split::validation, 8, 4);
    for (std::int64_t b = 0; b < batches; ++b) {
      const std::int64_t real = data.sequential_batch<std::int64_t>(Split::validation, 8, b, x, y);
      for (std::int64_t i = 0; i < real; ++i) {
        EXPECT_EQ(x[static_cast<std::size_t>(i)], '0' + next - 1);
        EXPECT_EQ(y[static_cast<std::size_t>(i)], '0' + next++);
      }
      EXPECT_THAT(std::vector(x.begin() + real, x.end()), Each(0));
      EXPECT_THAT(std::vector(y.begin() + real, y.end()), Each(-100));
    }
    EXPECT_EQ(next, size);
    EXPECT_THROW((void)data.sequential_batch<std::int64_t>(Split::validation, 8, batches, x, y), IndexError);
  }
}

TEST(DataSet, WideVocabulariesStayWide) {
  std::u32string vocabulary;
  std::string text;
  for (char32_t code = 0x10000; code < 0x10000 + 70000; ++code) vocabulary += code;
  const auto tokenizer = std::make_shared<CharTokenizer>(vocabulary);
  const std::int32_t ids[] = {69999, 0, 65536, 3};
  text = tokenizer->decode(ids);
  const DataSet data = DataSet::from_text(text, tokenizer, "t", 0.8);
  EXPECT_EQ(data.range(Split::train)[0], 69999);
  EXPECT_EQ(data.range(Split::train)[2], 65536);
}

TEST(SourceText, IsThisRepository) {
  const SourceText source = read_source_text();
  EXPECT_GT(source.files, 20);
  EXPECT_THAT(source.text, HasSubstr("TEST(SourceText, IsThisRepository)"));
  EXPECT_THAT(DataSet::load({}).describe(), HasSubstr("the source text of this repository"));
}

TEST(SourceText, IsInOrderAndLeavesOutBuilds) {
  TempFolder folder;
  folder.add("b/x.cpp", "B");
  folder.add("a.h", "A");
  folder.add("c.md", "C");
  folder.add("d.cuh", "D");
  folder.add("build/y.cpp", "no");
  folder.add(".git/z.md", "no");
  folder.add("e.txt", "no");
  EXPECT_EQ(read_source_text(folder.path()).text, "ABCD");
  EXPECT_EQ(error_of<IoError>([] { (void)read_source_text("/nowhere"); }),
            "[data] the source text to train on is not there ('/nowhere'): give a text with --data FILE");
}

}  // namespace
}  // namespace trinix::tools
