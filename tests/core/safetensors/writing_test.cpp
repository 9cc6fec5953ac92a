// Writing: the bytes, what is refused, and that a failed save leaves everything as it was.
#include "files.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace trinix::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

TEST(SafetensorsWriting, WritesTheBytesOfTheReferenceImplementation) {
  const ScratchFolder folder;
  const std::filesystem::path data = std::filesystem::path(TRINIX_TEST_DATA) / "safetensors";
  for (const char* name : {"all_dtypes.safetensors"}) {
    const auto file = SafetensorsFile::open(data / name);
    NamedTensors tensors = file.read_all();
    std::reverse(tensors.begin(), tensors.end());  // the order in which they are given does not matter
    save_safetensors(folder / name, tensors, file.metadata());
    EXPECT_EQ(read_whole_file(folder / name), read_whole_file(data / name));
  }
}

TEST(SafetensorsWriting, TheHeaderHasTheStrictForm) {
  const ScratchFolder folder;
  const NamedTensors tensors = {{"b", ones({2}, {DType::u8})}, {"a", ones({}, {DType::f32})}};
  save_safetensors(folder / "f", tensors, {{"note", "two\nlines"}});
  const std::string header =
      R"({"__metadata__":{"format":"pt","note":"two\nlines"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_whole_file(folder / "f"), file_bytes(padded) + std::string("\x00\x00\x80\x3f\x01\x01", 6));
}

TEST(SafetensorsWriting, AFormatOfTheUsersOwnStays) {
  const ScratchFolder folder;
  save_safetensors(folder / "f", NamedTensors{}, {{"format", "mlx"}});
  EXPECT_EQ(SafetensorsFile::open(folder / "f").metadata().at("format"), "mlx");
}

TEST(SafetensorsWriting, EveryDtypeAndShapeComesBackBitForBit) {
  const ScratchFolder folder;
  NamedTensors tensors;
  for (int d = 0; d < kDTypes; ++d) {
    const auto dtype = static_cast<DType>(d);
    for (const Shape& shape : {Shape({}), Shape({1}), Shape({7}), Shape({0}), Shape({3, 0, 2}), Shape({2, 3, 5}),
                               Shape({1, 2, 1, 2, 1, 2, 1, 3})}) {
      const Tensor t = empty(shape, {dtype});
      auto* bytes = static_cast<unsigned char*>(t.raw_data());
      const std::size_t count = static_cast<std::size_t>(t.numel()) * size_of(dtype);
      for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<unsigned char>(dtype == DType::boolean ? i % 3 == 0 : i * 37 + 11);
      }
      tensors.emplace_back(std::string(name(dtype)) + shape.to_string(), t);
    }
  }
  save_safetensors(folder / "f", tensors);
  const auto file = SafetensorsFile::open(folder / "f");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, t] : tensors) {
    SCOPED_TRACE(name);
    const Tensor back = file.read(name);
    EXPECT_EQ(back.dtype(), t.dtype());
    EXPECT_EQ(back.shape(), t.shape());
    EXPECT_EQ(std::memcmp(back.raw_data(), t.raw_data(), static_cast<std::size_t>(t.numel()) * size_of(t.dtype())), 0);
  }
}

TEST(SafetensorsWriting, ViewsAreWrittenAsTheyRead) {
  const ScratchFolder folder;
  const Tensor base = arange(24).reshape({4, 6});
  const NamedTensors tensors = {{"transposed", base.transpose(0, 1)},
                                {"sliced", base.slice(1, 1, 6, 2)},
                                {"offset", base.narrow(0, 2, 2)},
                                {"expanded", base.select(1, 0).unsqueeze(0).expand({3, 4})},
                                {"diagonal", base.diagonal(1)}};
  save_safetensors(folder / "f", tensors);
  const auto file = SafetensorsFile::open(folder / "f");
  for (const auto& [name, t] : tensors) {
    SCOPED_TRACE(name);
    EXPECT_EQ(file.read(name).shape(), t.shape());
    EXPECT_EQ(file.read(name).to_vector<std::int64_t>(), t.to_vector<std::int64_t>());
  }
}

TEST(SafetensorsWriting, TensorsThatRequireGradAreWrittenWithoutARecord) {
  const ScratchFolder folder;
  const Tensor leaf = ones({2, 2}, {.requires_grad = true});
  save_safetensors(folder / "f", NamedTensors{{"w", leaf}, {"wt", leaf.transpose(0, 1)}});
  EXPECT_FALSE(SafetensorsFile::open(folder / "f").read("w").requires_grad());
}

TEST(SafetensorsWriting, NamesThatCannotBeWrittenAreRefused) {
  const ScratchFolder folder;
  const auto path = folder / "f";
  const std::string begin = "[safetensors] cannot write '" + path.string() + "': ";
  const auto message = [&](const NamedTensors& tensors, const std::map<std::string, std::string>& metadata = {}) {
    return message_of<FormatError>([&] { save_safetensors(path, tensors, metadata); });
  };
  EXPECT_EQ(message({{"a", ones({1})}, {"b", ones({1})}, {"a", ones({1})}}), begin + "the name 'a' is given twice");
  EXPECT_EQ(message({{"", ones({1})}}), begin + "a tensor has an empty name");
  EXPECT_EQ(message({{"__metadata__", ones({1})}}), begin + "the name '__metadata__' is reserved");
  EXPECT_EQ(message({{"a", Tensor()}}), begin + "tensor 'a' is undefined");
  EXPECT_EQ(message({{"a\xff", ones({1})}}), begin + "'a\xff' is not UTF-8");
  EXPECT_EQ(message({}, {{"key", "\xc0\x80"}}), begin + "'\xc0\x80' is not UTF-8");
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(SafetensorsWriting, AHeaderOverTheLimitIsRefused) {
  const ScratchFolder folder;
  const std::map<std::string, std::string> metadata = {{"text", std::string(100'000'000, 'x')}};
  EXPECT_THAT(message_of<FormatError>([&] { save_safetensors(folder / "f", NamedTensors{}, metadata); }),
              HasSubstr("more than the limit of 100000000; use fewer or shorter names"));
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(SafetensorsWriting, ReplacesAFileAndLeavesNothingElse) {
  const ScratchFolder folder;
  save_safetensors(folder / "f", NamedTensors{{"a", ones({1})}});
  save_safetensors(folder / "f", NamedTensors{{"b", ones({2})}});
  EXPECT_THAT(SafetensorsFile::open(folder / "f").names(), ElementsAre("b"));
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(SafetensorsWriting, SystemErrorsLeaveTheOldFile) {
  const ScratchFolder folder;
  const NamedTensors tensors = {{"a", ones({1})}};
  const auto message = [&](const std::filesystem::path& path) {
    return message_of<IoError>([&] { save_safetensors(path, tensors); });
  };
  const auto nowhere = folder / "no such folder/f";
  EXPECT_EQ(message(nowhere),
            "[safetensors] cannot create a file beside '" + nowhere.string() + "': No such file or directory");
  std::filesystem::create_directory(folder / "folder");
  EXPECT_EQ(message(folder / "folder"),
            "[safetensors] cannot replace '" + (folder / "folder").string() + "': Is a directory");
  write_file(folder / "file", "x");
  EXPECT_THAT(message(folder / "file/f"), HasSubstr("Not a directory"));
  EXPECT_EQ(folder.entries(), 2U);
}

TEST(SafetensorsWriting, AReadOnlyFolderIsRefused) {
  const ScratchFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
  const OrdinaryUser user;
  EXPECT_THAT(message_of<IoError>([&] { save_safetensors(folder / "f", NamedTensors{}); }),
              HasSubstr("Permission denied"));
}

/// Makes writing past `bytes` of a file fail with EFBIG, after a short write up to there: a full disk, in effect.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : previous_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &previous_);
    rlimit limit = previous_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &previous_);
    std::signal(SIGXFSZ, previous_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit previous_{};
  void (*previous_handler_)(int);
};

TEST(SafetensorsWriting, ADiskThatFillsUpAtAnyByteLeavesTheOldFile) {
  const ScratchFolder folder;
  const auto path = folder / "f";
  save_safetensors(path, NamedTensors{{"old", ones({3})}});
  const std::string before = read_whole_file(path);
  const NamedTensors larger = {{"new", ones({5}, {DType::f64})}, {"more", zeros({7}, {DType::u8})}};
  save_safetensors(folder / "whole", larger);
  const auto whole = static_cast<rlim_t>(std::filesystem::file_size(folder / "whole"));
  for (rlim_t room = 0; room < whole; ++room) {
    std::string text;
    {
      const FileSizeLimit limit(room);
      text = message_of<IoError>([&] { save_safetensors(path, larger); });
    }
    ASSERT_EQ(text, "[safetensors] cannot write '" + path.string() + "': File too large") << room;
    ASSERT_EQ(read_whole_file(path), before) << room;
    ASSERT_EQ(folder.entries(), 2U) << room;
  }
  const FileSizeLimit limit(whole);
  save_safetensors(path, larger);
  EXPECT_TRUE(SafetensorsFile::open(path).contains("new"));
}

TEST(SafetensorsWriting, ALeftoverOfAKilledProcessIsNoObstacle) {
  const ScratchFolder folder;
  for (int i = 0; i < 50; ++i) {
    write_file(folder / (".safetensors-" + std::to_string(::getpid()) + "-" + std::to_string(i) + ".tmp"), "old");
  }
  save_safetensors(folder / "f", NamedTensors{{"a", ones({1})}});
  EXPECT_TRUE(SafetensorsFile::open(folder / "f").contains("a"));
}

}  // namespace
}  // namespace trinix::testing
