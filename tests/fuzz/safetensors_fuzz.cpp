// libFuzzer target for the safetensors header. Each input is tried as a whole file, and as the JSON of a file that is
// built around it: otherwise nearly every mutation would fail at the header's length and never reach the parser.
//
//   cmake -S tests/fuzz -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ && ninja -C build/fuzz
//   build/fuzz/safetensors_fuzz -dict=tests/fuzz/safetensors.dict -max_total_time=60 build/fuzz/corpus \
//       tests/fuzz/corpus/safetensors
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <trinix/core/error.h>
#include <trinix/core/safetensors.h>

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "accepted a header in which %s\n", what);
  std::abort();
}

/// What the reader relies on once a header has been accepted, checked in another way than the parser does.
void check(const trinix::SafetensorsHeader& header, std::uint64_t file_size, bool to_the_end) {
  require(header.data_begin >= 8 && header.data_begin <= file_size, "the data begins outside the file");
  const std::uint64_t data = file_size - header.data_begin;
  std::uint64_t position = 0;
  for (const trinix::SafetensorsInfo& t : header.tensors) {
    require(t.begin == position && t.begin <= t.end && t.end <= data, "a tensor lies outside the data or on another");
    position = t.end;
    if (!t.dtype) continue;
    long double bytes = static_cast<long double>(trinix::size_of(*t.dtype));
    for (const std::int64_t n : t.shape) {
      require(n >= 0, "a dim is negative");
      bytes *= static_cast<long double>(n);
    }
    require(bytes == static_cast<long double>(t.bytes()), "a size differs from its shape");
  }
  require(!to_the_end || position == data, "bytes follow the last tensor");
}

void parse(const std::string& file) {
  for (const bool ignore : {false, true}) {
    try {
      const auto bytes = std::as_bytes(std::span(file.data(), file.size()));
      check(trinix::parse_safetensors_header(bytes, "fuzz", {.ignore_trailing_bytes = ignore}), file.size(), !ignore);
    } catch (const trinix::FormatError&) {
      // The one exception that a file may cause; any other ends the run.
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  parse(input);
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(size >> (8 * i) & 0xff);
  parse(file + input + std::string(16, '\1'));
  return 0;
}
