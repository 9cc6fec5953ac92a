// Every way in which a header can lie, and the exact sentence that the user gets.
#include "files.h"

#include <chrono>
#include <gmock/gmock.h>

namespace trinix::testing {
namespace {

using ::testing::HasSubstr;

struct Lie {
  const char* what;
  std::string bytes;
  const char* message;  // after "[safetensors] 'x.safetensors': "
};

std::string one(std::string_view entry, std::size_t data) {
  return file_bytes("{\"w\":" + std::string(entry) + "}", data);
}

std::string many_twos(int count) {
  std::string shape = "2";
  for (int i = 1; i < count; ++i) shape += ",2";
  return R"({"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[0,8]})";
}

std::vector<Lie> lies() {
  const std::string deep_array = "{\"w\":" + std::string(100000, '[');
  std::string deep_object = "{\"w\":{\"x\":";
  for (int i = 0; i < 100000; ++i) deep_object += "{\"x\":";
  return {
      // 1: the length
      {"empty", "", "header length missing: the file has 0 bytes, the length alone takes 8"},
      {"seven bytes", std::string(7, '\0'), "header length missing: the file has 7 bytes, the length alone takes 8"},
      {"no header", length_bytes(0), "the header is empty"},
      // 2: the length lies
      {"over the limit", length_bytes(100000001) + "{}",
       "the header is said to be 100000001 bytes long, more than the limit of 100000000; is this a safetensors file?"},
      {"beyond the file", length_bytes(1000) + "{}",
       "the header is said to be 1000 bytes long, but 2 bytes follow (incomplete download?)"},
      {"all ones", length_bytes(~std::uint64_t{0}) + "{}",
       "the header is said to be 18446744073709551615 bytes long, more than the limit of 100000000; is this a "
       "safetensors file?"},
      {"length + 8 wraps", length_bytes(~std::uint64_t{0} - 7) + "{}",
       "the header is said to be 18446744073709551608 bytes long, more than the limit of 100000000; is this a "
       "safetensors file?"},
      {"one byte beyond", length_bytes(3) + "{}",
       "the header is said to be 3 bytes long, but 2 bytes follow (incomplete download?)"},
      // 3: not the JSON it should be
      {"not UTF-8", file_bytes("{\"\xff\xfe\":1}"),
       "the header is not JSON: byte 3 of it: invalid string: ill-formed UTF-8 byte"},
      {"overlong UTF-8", file_bytes("{\"\xc0\x80\":1}"),
       "the header is not JSON: byte 3 of it: invalid string: ill-formed UTF-8 byte"},
      {"lone surrogate", file_bytes("{\"\\ud800\":1}"),
       "the header is not JSON: byte 9 of it: invalid string: surrogate U+D800..U+DBFF must be followed by "
       "U+DC00..U+DFFF"},
      {"not JSON", file_bytes("hello"), "the header is not JSON: byte 1 of it: invalid literal"},
      {"cut JSON", file_bytes("{\"w\":"), "the header is not JSON: byte 6 of it: unexpected end of input"},
      {"trailing text", file_bytes("{} x"), "the header is not JSON: byte 4 of it: invalid literal"},
      {"two objects", file_bytes("{}{}"), "the header is not JSON: byte 3 of it: unexpected '{'"},
      {"single quotes", file_bytes("{'w':1}"), "the header is not JSON: byte 2 of it: invalid literal"},
      {"comment", file_bytes("{/* */}"), "the header is not JSON: byte 2 of it: invalid literal"},
      {"byte order mark", file_bytes("\xef\xbb\xbf{}"), "the header begins with a byte order mark"},
      {"zero byte inside", file_bytes(std::string_view("{\"a\0\":1}", 8)),
       "the header is not JSON: byte 3 of it is zero"},
      {"zero byte after", file_bytes(std::string_view("{}\0{}", 5)), "the header is not JSON: byte 2 of it is zero"},
      {"array", file_bytes("[]"), "the header is an array, not an object"},
      {"string", file_bytes("\"w\""), "the header is a string, not an object"},
      {"number", file_bytes("12"), "the header is a number, not an object"},
      {"null", file_bytes("null"), "the header is null, not an object"},
      {"deep arrays", file_bytes(deep_array), "tensor 'w': its entry is an array, not an object"},
      {"deep arrays in a field of no meaning", file_bytes("{\"w\":{\"x\":" + std::string(100000, '[')),
       "the header is nested more than 128 deep"},
      {"deep objects", file_bytes(deep_object), "the header is nested more than 128 deep"},
      // 4: twice
      {"name twice",
       file_bytes(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],)"
                  R"("data_offsets":[1,2]}})",
                  2),
       "tensor 'w' appears twice"},
      {"name twice, once escaped",
       file_bytes(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0077":{"dtype":"U8","shape":[0],)"
                  R"("data_offsets":[0,0]}})"),
       "tensor 'w' appears twice"},
      {"dtype twice", one(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", 1),
       "tensor 'w': the key 'dtype' appears twice"},
      {"shape twice", one(R"({"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]})", 1),
       "tensor 'w': the key 'shape' appears twice"},
      {"offsets twice", one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]})", 1),
       "tensor 'w': the key 'data_offsets' appears twice"},
      {"metadata twice", file_bytes(R"({"__metadata__":{},"__metadata__":{}})"),
       "the key '__metadata__' appears twice"},
      {"metadata key twice", file_bytes(R"({"__metadata__":{"a":"1","a":"2"}})"),
       "__metadata__: the key 'a' appears twice"},
      // 5: metadata of other types
      {"metadata number", file_bytes(R"({"__metadata__":{"a":1}})"), "__metadata__: 'a' is a number, not a string"},
      {"metadata null value", file_bytes(R"({"__metadata__":{"a":null}})"), "__metadata__: 'a' is null, not a string"},
      {"metadata bool", file_bytes(R"({"__metadata__":{"a":true}})"), "__metadata__: 'a' is a boolean, not a string"},
      {"metadata object", file_bytes(R"({"__metadata__":{"a":{}}})"), "__metadata__: 'a' is an object, not a string"},
      {"metadata array", file_bytes(R"({"__metadata__":{"a":[]}})"), "__metadata__: 'a' is an array, not a string"},
      {"metadata is a string", file_bytes(R"({"__metadata__":"a"})"), "__metadata__ is a string, not an object"},
      {"metadata is an array", file_bytes(R"({"__metadata__":[]})"), "__metadata__ is an array, not an object"},
      // 6: sizes that overflow
      {"2^53 x 2^53", one(R"({"dtype":"U8","shape":[9007199254740992,9007199254740992],"data_offsets":[0,4]})", 4),
       "tensor 'w': size overflow: shape [9007199254740992, 9007199254740992] of U8 does not fit in 64 bits"},
      {"wraps to 0", one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0),
       "tensor 'w': size overflow: shape [4294967296, 4294967296] of U8 does not fit in 64 bits"},
      {"bits wrap", one(R"({"dtype":"F64","shape":[1073741824,268435456],"data_offsets":[0,0]})", 0),
       "tensor 'w': size overflow: shape [1073741824, 268435456] of F64 does not fit in 64 bits"},
      {"wraps, then zero", one(R"({"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]})", 0),
       "tensor 'w': size overflow: shape [4294967296, 4294967296, 0] of U8 does not fit in 64 bits"},
      {"many twos", one(many_twos(70), 8),
       "tensor 'w': size overflow: shape [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, ... (70 dims)] of F32 does "
       "not fit in 64 bits"},
      {"2^64 - 2", one(R"({"dtype":"U8","shape":[2,18446744073709551614],"data_offsets":[0,4]})", 4),
       "tensor 'w': dim 1 of the shape is 18446744073709551614, more than 2^53"},
      {"2^63 - 2", one(R"({"dtype":"U8","shape":[2,9223372036854775806],"data_offsets":[0,4]})", 4),
       "tensor 'w': dim 1 of the shape is 9223372036854775806, more than 2^53"},
      // 7: dims that are none
      {"negative", one(R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is -1, not a whole number from 0 to 2^53"},
      {"two negatives", one(R"({"dtype":"U8","shape":[1,-2,-2],"data_offsets":[0,4]})", 4),
       "tensor 'w': dim 1 of the shape is -2, not a whole number from 0 to 2^53"},
      {"minus zero", one(R"({"dtype":"U8","shape":[-0],"data_offsets":[0,0]})", 0),
       "tensor 'w': dim 0 of the shape is 0, not a whole number from 0 to 2^53"},
      {"fraction", one(R"({"dtype":"U8","shape":[1.5],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is 1.5, not a whole number from 0 to 2^53"},
      {"whole fraction", one(R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is 1.0, not a whole number from 0 to 2^53"},
      {"exponent", one(R"({"dtype":"U8","shape":[1e3],"data_offsets":[0,1000]})", 1000),
       "tensor 'w': dim 0 of the shape is 1e3, not a whole number from 0 to 2^53"},
      {"beyond 64 bits", one(R"({"dtype":"U8","shape":[100000000000000000000],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is 100000000000000000000, not a whole number from 0 to 2^53"},
      {"2^53 + 1", one(R"({"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is 9007199254740993, more than 2^53"},
      {"no number of double's", one(R"({"dtype":"U8","shape":[1e999],"data_offsets":[0,1]})", 1),
       "the header is not JSON: byte 33 of it: number overflow parsing '1e999'"},
      {"string dim", one(R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is a string, not a number"},
      {"null dim", one(R"({"dtype":"U8","shape":[null],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is null, not a number"},
      {"array dim", one(R"({"dtype":"U8","shape":[[1]],"data_offsets":[0,1]})", 1),
       "tensor 'w': dim 0 of the shape is an array, not a number"},
      {"shape is a number", one(R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})", 1),
       "tensor 'w': shape is a number, not an array"},
      {"shape is an object", one(R"({"dtype":"U8","shape":{},"data_offsets":[0,1]})", 1),
       "tensor 'w': shape is an object, not an array"},
      {"shape is null", one(R"({"dtype":"U8","shape":null,"data_offsets":[0,1]})", 1),
       "tensor 'w': shape is null, not an array"},
      // 8: offsets
      {"reversed", one(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})", 4),
       "tensor 'w': data_offsets [4, 0] are reversed"},
      {"hole before", one(R"({"dtype":"U8","shape":[4],"data_offsets":[4,8]})", 8),
       "tensor 'w': data_offsets [4, 8] leave a hole after the data before, which ends at 0"},
      {"beyond file", one(R"({"dtype":"U8","shape":[400],"data_offsets":[0,400]})", 4),
       "tensor 'w': needs data up to byte 400, but the file has 4 bytes of data (incomplete download?)"},
      {"2^64 - 1", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551615]})", 4),
       "tensor 'w': shape [4] of U8 needs 4 bytes, but data_offsets [0, 18446744073709551615] hold "
       "18446744073709551615"},
      {"size too small", one(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,16]})", 16),
       "tensor 'w': shape [2, 3] of F32 needs 24 bytes, but data_offsets [0, 16] hold 16"},
      {"size too large", one(R"({"dtype":"F32","shape":[],"data_offsets":[0,8]})", 8),
       "tensor 'w': shape [] of F32 needs 4 bytes, but data_offsets [0, 8] hold 8"},
      {"zero dims, bytes", one(R"({"dtype":"F32","shape":[0],"data_offsets":[0,4]})", 4),
       "tensor 'w': shape [0] of F32 needs 0 bytes, but data_offsets [0, 4] hold 4"},
      {"overlap",
       file_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],)"
                  R"("data_offsets":[2,6]}})",
                  6),
       "tensor 'b': data_offsets [2, 6] overlap the data before, which ends at 4"},
      {"the same bytes",
       file_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],)"
                  R"("data_offsets":[0,4]}})",
                  4),
       "tensor 'b': data_offsets [0, 4] overlap the data before, which ends at 4"},
      {"hole between",
       file_bytes(R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]},"a":{"dtype":"U8","shape":[4],)"
                  R"("data_offsets":[0,4]}})",
                  9),
       "tensor 'b': data_offsets [5, 9] leave a hole after the data before, which ends at 4"},
      {"negative offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[-4,0]})", 4),
       "tensor 'w': data_offsets holds -4, not a byte position"},
      {"fractional offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4.0]})", 4),
       "tensor 'w': data_offsets holds 4.0, not a byte position"},
      {"string offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":["0",4]})", 4),
       "tensor 'w': data_offsets holds a string, not a byte position"},
      {"one offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[4]})", 4),
       "tensor 'w': data_offsets must hold two numbers, it holds 1"},
      {"no offset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[]})", 4),
       "tensor 'w': data_offsets must hold two numbers, it holds 0"},
      {"three offsets", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4,4]})", 4),
       "tensor 'w': data_offsets must hold two numbers, it holds more"},
      {"offsets is a number", one(R"({"dtype":"U8","shape":[4],"data_offsets":4})", 4),
       "tensor 'w': data_offsets is a number, not an array"},
      // 9: too little and too much data
      {"one byte short", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", 3),
       "tensor 'w': needs data up to byte 4, but the file has 3 bytes of data (incomplete download?)"},
      {"trailing bytes", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", 8),
       "4 bytes follow the last tensor, which ends at byte 4 of 8 bytes of data; set ignore_trailing_bytes to accept "
       "them"},
      {"trailing bytes, no tensor", file_bytes("{}", 1),
       "1 bytes follow the last tensor, which ends at byte 0 of 1 bytes of data; set ignore_trailing_bytes to accept "
       "them"},
      // 10: dtypes
      {"unknown dtype", one(R"({"dtype":"F128","shape":[1],"data_offsets":[0,16]})", 16),
       "tensor 'w': unknown dtype 'F128'; those that can be read are BOOL, U8, F16, BF16, I32, F32, F64, I64"},
      {"lower case", one(R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})", 4),
       "tensor 'w': unknown dtype 'f32'; those that can be read are BOOL, U8, F16, BF16, I32, F32, F64, I64"},
      {"dtype is a number", one(R"({"dtype":32,"shape":[1],"data_offsets":[0,4]})", 4),
       "tensor 'w': dtype is a number, not a string"},
      {"dtype is null", one(R"({"dtype":null,"shape":[1],"data_offsets":[0,4]})", 4),
       "tensor 'w': dtype is null, not a string"},
      {"half a byte", one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})", 1),
       "tensor 'w': shape [3] of F4 is 12 bits, not whole bytes"},
      // entries that are none
      {"no dtype", one(R"({"shape":[1],"data_offsets":[0,4]})", 4), "tensor 'w': its entry has no dtype"},
      {"no shape", one(R"({"dtype":"F32","data_offsets":[0,4]})", 4), "tensor 'w': its entry has no shape"},
      {"no offsets", one(R"({"dtype":"F32","shape":[1]})", 4), "tensor 'w': its entry has no data_offsets"},
      {"empty entry", one("{}", 0), "tensor 'w': its entry has no dtype"},
      {"entry is a string", one("\"x\"", 0), "tensor 'w': its entry is a string, not an object"},
      {"entry is null", one("null", 0), "tensor 'w': its entry is null, not an object"},
      {"entry is an array", one(R"(["F32",[1],[0,4]])", 4), "tensor 'w': its entry is an array, not an object"},
  };
}

TEST(SafetensorsHeader, RefusesEveryLieWithItsReason) {
  for (const Lie& lie : lies()) {
    SCOPED_TRACE(lie.what);
    EXPECT_EQ(message_of<FormatError>([&] { static_cast<void>(parse(lie.bytes)); }),
              std::string("[safetensors] 'x.safetensors': ") + lie.message);
  }
}

TEST(SafetensorsHeader, RefusesTheSameLiesInAFile) {
  const ScratchFolder folder;
  const auto path = folder / "model.safetensors";
  for (const Lie& lie : lies()) {
    SCOPED_TRACE(lie.what);
    write_file(path, lie.bytes);
    EXPECT_EQ(message_of<FormatError>([&] { static_cast<void>(SafetensorsFile::open(path)); }),
              "[safetensors] '" + path.string() + "': " + lie.message);
  }
}

TEST(SafetensorsHeader, EveryCutOfAFileIsAnError) {
  const std::string whole =
      file_bytes(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                 R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
                 11);
  EXPECT_EQ(parse(whole).tensors.size(), 2U);
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_THROW(static_cast<void>(parse(whole.substr(0, n))), FormatError) << n;
  }
}

TEST(SafetensorsHeader, ManyTensorsTakeBoundedTime) {
  constexpr int kCount = 300'000;
  std::string header = "{";
  for (int i = 0; i < kCount; ++i) {
    if (i > 0) header += ',';
    header += "\"t" + std::to_string(i) + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + std::to_string(i) + ',' +
              std::to_string(i + 1) + "]}";
  }
  header += '}';
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(parse(file_bytes(header, kCount)).tensors.size(), static_cast<std::size_t>(kCount));
  // A quadratic check would take minutes; this leaves room for sanitizers on a busy machine.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(SafetensorsHeader, OneTensorOverTheBytesOfAnother) {
  // The "100,000 tensors over the same bytes" attack: small on disk, huge once loaded.
  std::string header = "{";
  for (int i = 0; i < 1000; ++i) {
    header += "\"t" + std::to_string(i) + R"(":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]},)";
  }
  header.back() = '}';
  EXPECT_THAT(message_of<FormatError>([&] { static_cast<void>(parse(file_bytes(header, 4000))); }),
              HasSubstr("overlap the data before"));
}

TEST(SafetensorsHeader, LongNamesAreShownCut) {
  const std::string name(1'000'000, 'n');
  const std::string good = file_bytes("{\"" + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1);
  EXPECT_EQ(parse(good).tensors[0].name, name);
  const std::string bad = file_bytes("{\"" + name + R"(":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", 1);
  const std::string text = message_of<FormatError>([&] { static_cast<void>(parse(bad)); });
  EXPECT_LT(text.size(), 500U);
  EXPECT_THAT(text, HasSubstr("nnn... (1000000 bytes)': shape [2] of U8 needs 2 bytes"));
}

TEST(SafetensorsHeader, ControlCharactersOfANameDoNotReachTheTerminal) {
  const std::string bad = file_bytes(R"({"a\n\u001b[2Jb":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", 1);
  EXPECT_THAT(message_of<FormatError>([&] { static_cast<void>(parse(bad)); }), HasSubstr("tensor 'a??[2Jb': shape"));
}

}  // namespace
}  // namespace trinix::testing
