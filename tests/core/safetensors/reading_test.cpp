// Opening real files: what the format allows, what the system refuses, and what happens under an open file.
#include "files.h"

#include <cmath>
#include <gmock/gmock.h>
#include <set>
#include <sys/stat.h>

namespace trinix::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::filesystem::path golden(std::string_view name) {
  return std::filesystem::path(TRINIX_TEST_DATA) / "safetensors" / name;
}

template <class T>
void expect_counting(const SafetensorsFile& file, const char* name) {
  SCOPED_TRACE(name);
  const Tensor t = file.read(name);
  EXPECT_EQ(t.dtype(), dtype_of<T>);
  EXPECT_EQ(t.shape(), Shape({3, 4}));
  const std::vector<T> values = t.to_vector<T>();
  for (int i = 0; i < 12; ++i) EXPECT_EQ(static_cast<double>(values[static_cast<std::size_t>(i)]), i);
}

TEST(SafetensorsReading, ReadsEveryDtypeOfTheReferenceImplementation) {
  const auto file = SafetensorsFile::open(golden("all_dtypes.safetensors"));
  expect_counting<std::uint8_t>(file, "x.u8");
  expect_counting<std::int32_t>(file, "x.i32");
  expect_counting<std::int64_t>(file, "x.i64");
  expect_counting<float16>(file, "x.f16");
  expect_counting<bfloat16>(file, "x.bf16");
  expect_counting<float>(file, "x.f32");
  expect_counting<double>(file, "x.f64");
  const std::vector<double> parity = file.read("x.bool").to_doubles();
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(parity[i], static_cast<double>(i % 2));

  EXPECT_EQ(file.read("scalar").shape(), Shape());
  EXPECT_EQ(file.read("scalar").item<float>(), 2.5F);
  EXPECT_EQ(file.read("empty").shape(), Shape({2, 0, 3}));
  EXPECT_EQ(file.read("naïve \"quoted\" \\ \n").item<int>(), 7);
  EXPECT_THAT(file.metadata(), ElementsAre(std::pair<const std::string, std::string>("format", "pt")));
  EXPECT_EQ(file.names().size(), 13U);
  EXPECT_EQ(file.read_all().size(), 13U);
}

TEST(SafetensorsReading, NanAndInfinityAreTakenAsTheyAre) {
  const auto values = SafetensorsFile::open(golden("all_dtypes.safetensors")).read("special").to_vector<float>();
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_EQ(values[1], INFINITY);
  EXPECT_EQ(values[2], -INFINITY);
  EXPECT_TRUE(std::signbit(values[3]) && values[3] == 0);
}

TEST(SafetensorsReading, MetadataMayBeMissingNullOrEmpty) {
  EXPECT_THAT(SafetensorsFile::open(golden("no_metadata.safetensors")).metadata(), IsEmpty());
  EXPECT_THAT(parse(file_bytes(R"({"__metadata__":null})")).metadata, IsEmpty());
  EXPECT_THAT(parse(file_bytes(R"({"__metadata__":{}})")).metadata, IsEmpty());
  EXPECT_THAT(parse(file_bytes("{}")).tensors, IsEmpty());
  const auto file = SafetensorsFile::open(golden("no_tensors.safetensors"));
  EXPECT_EQ(file.metadata().at("note"), "nothing in it");
  EXPECT_THAT(file.read_all(), IsEmpty());
}

TEST(SafetensorsReading, DescribesEachTensor) {
  const auto file = SafetensorsFile::open(golden("no_metadata.safetensors"));
  const SafetensorsInfo& info = file.info("w");
  EXPECT_EQ(info.name, "w");
  EXPECT_EQ(info.dtype_name, "F32");
  EXPECT_EQ(info.dtype, DType::f32);
  EXPECT_THAT(info.shape, ElementsAre(2, 3));
  EXPECT_EQ(info.begin, 0U);
  EXPECT_EQ(info.end, 24U);
  EXPECT_TRUE(file.contains("w"));
  EXPECT_FALSE(file.contains("W"));
}

TEST(SafetensorsReading, AMissingNameSaysSo) {
  const auto file = SafetensorsFile::open(golden("no_metadata.safetensors"));
  const std::string text =
      "[safetensors] '" + file.path().string() + "': there is no tensor 'b' among its 1; names() lists them";
  EXPECT_EQ(message_of<IndexError>([&] { static_cast<void>(file.info("b")); }), text);
  EXPECT_EQ(message_of<IndexError>([&] { static_cast<void>(file.read("b")); }), text);
}

TEST(SafetensorsReading, DtypesTheLibraryLacksAreListedButNotRead) {
  const auto file = SafetensorsFile::open(golden("other_dtypes.safetensors"));
  EXPECT_EQ(file.names().size(), 4U);
  EXPECT_EQ(file.info("f8").dtype_name, "F8_E4M3");
  EXPECT_EQ(file.info("f8").dtype, std::nullopt);
  EXPECT_THAT(file.read("known").to_vector<float>(), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(
      message_of<DtypeError>([&] { static_cast<void>(file.read("f8")); }),
      HasSubstr("tensor 'f8' is F8_E4M3, which cannot be read; those that can are BOOL, U8, F16, BF16, I32, F32, "
                "F64, I64"));
  EXPECT_THROW(static_cast<void>(file.read("i8")), DtypeError);
  EXPECT_THROW(static_cast<void>(file.read("i16")), DtypeError);
  EXPECT_THROW(static_cast<void>(file.read_all()), DtypeError);
}

TEST(SafetensorsReading, EveryDtypeOfTheFormatIsListed) {
  for (const char* dtype : {"BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
                            "I16",  "U16", "F16", "BF16",    "I32",     "U32",     "F32",         "C64",
                            "F64",  "I64", "U64", "F4",      "F6_E2M3", "F6_E3M2"}) {
    const std::set<std::string> bytes4 = {"F4"};
    const std::set<std::string> bytes6 = {"F6_E2M3", "F6_E3M2"};
    const std::string name = dtype;
    int bits = 8;
    if (name.find("16") != std::string::npos) bits = 16;
    if (name.find("32") != std::string::npos) bits = 32;
    if (name.find("64") != std::string::npos) bits = 64;
    if (bytes4.contains(name)) bits = 4;
    if (bytes6.contains(name)) bits = 6;
    const auto parsed = parse(
        file_bytes("{\"w\":{\"dtype\":\"" + name + R"(","shape":[8],"data_offsets":[0,)" + std::to_string(bits) + "]}}",
                   static_cast<std::size_t>(bits)));
    EXPECT_EQ(parsed.tensors[0].dtype_name, name);
  }
}

TEST(SafetensorsReading, AcceptsTheLaxFormThatTheReferenceAccepts) {
  const std::string entry = R"({"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
  EXPECT_EQ(parse(file_bytes("  \t\n\r{\"w\":" + entry + "}", 2)).tensors.size(), 1U);
  EXPECT_EQ(parse(file_bytes("{\"w\":" + entry + "}   \n ", 2)).tensors.size(), 1U);
  EXPECT_EQ(parse(file_bytes("{ \"w\" : " + entry + " }", 2)).tensors.size(), 1U);
  // Fields that the format does not define are passed over, whatever they hold.
  EXPECT_EQ(parse(file_bytes(R"({"w":{"extra":{"a":[1,{"b":null}],"c":[[]]},"dtype":"U8","note":1.5,"shape":[2],)"
                             R"("list":[true,"x",[]],"data_offsets":[0,2],"null":null}})",
                             2))
                .tensors.size(),
            1U);
  // An empty name, and one of zero bytes.
  EXPECT_EQ(parse(file_bytes("{\"\":" + entry + "}", 2)).tensors[0].name, "");
  EXPECT_EQ(parse(file_bytes("{\"a\\u0000b\":" + entry + "}", 2)).tensors[0].name, std::string("a\0b", 3));
}

TEST(SafetensorsReading, TheOrderOfEntriesDoesNotMatter) {
  const auto header = parse(file_bytes(R"({"b":{"data_offsets":[2,5],"shape":[3],"dtype":"U8"},)"
                                       R"("z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
                                       R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                                       5));
  std::vector<std::string> names;
  for (const auto& t : header.tensors) names.push_back(t.name);
  EXPECT_THAT(names, ElementsAre("a", "z", "b"));
}

TEST(SafetensorsReading, TrailingBytesAreAcceptedOnRequest) {
  const std::string bytes = file_bytes(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 6);
  EXPECT_THROW(static_cast<void>(parse(bytes)), FormatError);
  EXPECT_EQ(parse(bytes, {.ignore_trailing_bytes = true}).tensors.size(), 1U);
  // The option does not forgive missing ones.
  EXPECT_THROW(static_cast<void>(parse(bytes.substr(0, bytes.size() - 5), {.ignore_trailing_bytes = true})),
               FormatError);
}

TEST(SafetensorsReading, TooManyDimsAreListedButNotRead) {
  const ScratchFolder folder;
  std::string shape = "1";
  for (int i = 1; i < 10000; ++i) shape += ",1";
  write_file(folder / "f", file_bytes(R"({"w":{"dtype":"U8","shape":[)" + shape +
                                          R"(],"data_offsets":[0,1]},)"
                                          R"("v":{"dtype":"U8","shape":[1,1,1,1,1,1,1,2],"data_offsets":[1,3]}})",
                                      3));
  const auto file = SafetensorsFile::open(folder / "f");
  EXPECT_EQ(file.info("w").shape.size(), 10000U);
  EXPECT_EQ(file.read("v").rank(), 8);
  EXPECT_THAT(message_of<FormatError>([&] { static_cast<void>(file.read("w")); }),
              HasSubstr("tensor 'w' has 10000 dims, more than the 8 that a tensor can have"));
}

TEST(SafetensorsReading, BooleansOtherThanOneAreTrue) {
  const ScratchFolder folder;
  write_file(folder / "f", file_bytes(R"({"w":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}})") +
                               std::string("\x00\x01\x02\xff", 4));
  const Tensor t = SafetensorsFile::open(folder / "f").read("w");
  EXPECT_THAT(t.to_doubles(), ElementsAre(0, 1, 1, 1));
  for (int i = 1; i < 4; ++i) EXPECT_EQ(static_cast<const unsigned char*>(t.raw_data())[i], 1);
}

TEST(SafetensorsReading, WhatIsNoRegularFileIsRefused) {
  const ScratchFolder folder;
  const auto message = [](const std::filesystem::path& path) {
    return message_of<IoError>([&] { static_cast<void>(SafetensorsFile::open(path)); });
  };
  EXPECT_EQ(message(folder.path()), "[safetensors] cannot read '" + folder.path().string() + "': Is a directory");
  const auto missing = folder / "missing";
  EXPECT_EQ(message(missing), "[safetensors] cannot open '" + missing.string() + "': No such file or directory");
  const auto fifo = folder / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(message(fifo), "[safetensors] cannot read '" + fifo.string() + "': it is a FIFO, not a regular file");
  EXPECT_EQ(message("/dev/zero"), "[safetensors] cannot read '/dev/zero': it is a device, not a regular file");
  const auto broken = folder / "link";
  std::filesystem::create_symlink(folder / "nowhere", broken);
  EXPECT_EQ(message(broken), "[safetensors] cannot open '" + broken.string() + "': No such file or directory");
  const auto loop = folder / "loop";
  std::filesystem::create_symlink(loop, loop);
  EXPECT_EQ(message(loop), "[safetensors] cannot open '" + loop.string() + "': Too many levels of symbolic links");
  EXPECT_THAT(message(folder / std::string(300, 'n')), HasSubstr("File name too long"));
  EXPECT_THAT(message(""), HasSubstr("No such file or directory"));
}

TEST(SafetensorsReading, AFileWithoutPermissionIsRefused) {
  const ScratchFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  const auto path = folder / "secret";
  write_file(path, file_bytes("{}"));
  std::filesystem::permissions(path, std::filesystem::perms::none);
  const OrdinaryUser user;
  EXPECT_EQ(message_of<IoError>([&] { static_cast<void>(SafetensorsFile::open(path)); }),
            "[safetensors] cannot open '" + path.string() + "': Permission denied");
}

TEST(SafetensorsReading, NonAsciiPathsWork) {
  const ScratchFolder folder;
  const auto path = folder / "モデル ü.safetensors";
  write_file(path, file_bytes(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
  EXPECT_EQ(SafetensorsFile::open(path).read("w").item<int>(), 0);
}

TEST(SafetensorsReading, AFileCutWhileOpenIsAnErrorNotASignal) {
  const ScratchFolder folder;
  const auto path = folder / "f";
  const std::string bytes = file_bytes(R"({"w":{"dtype":"F32","shape":[100000],"data_offsets":[0,400000]}})", 400000);
  write_file(path, bytes);
  const auto file = SafetensorsFile::open(path);
  std::filesystem::resize_file(path, 5000);
  EXPECT_EQ(message_of<IoError>([&] { static_cast<void>(file.read("w")); }),
            "[safetensors] '" + path.string() + "' was cut short while it was open: it had " +
                std::to_string(bytes.size()) + " bytes, now it ends at 5000");
}

TEST(SafetensorsReading, AFileChangedWhileOpenIsAnError) {
  const ScratchFolder folder;
  const auto path = folder / "f";
  const std::string bytes = file_bytes(R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  write_file(path, bytes);
  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file.read("w").numel(), 4);
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
  EXPECT_THAT(message_of<IoError>([&] { static_cast<void>(file.read("w")); }),
              HasSubstr("was written to while it was open; open it again"));
  std::filesystem::resize_file(path, bytes.size() + 1);
  EXPECT_THAT(message_of<IoError>([&] { static_cast<void>(file.read("w")); }),
              HasSubstr("changed while it was open: it had"));
}

TEST(SafetensorsReading, AFileReplacedWhileOpenStaysReadable) {
  const ScratchFolder folder;
  const auto path = folder / "f";
  write_file(path, file_bytes(R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4));
  const auto file = SafetensorsFile::open(path);
  const std::vector<std::pair<std::string, Tensor>> other = {{"v", ones({2})}};
  save_safetensors(path, other);
  EXPECT_THAT(file.read("w").to_doubles(), ElementsAre(0, 0, 0, 0));
  EXPECT_TRUE(SafetensorsFile::open(path).contains("v"));
}

}  // namespace
}  // namespace trinix::testing
