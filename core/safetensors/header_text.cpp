// The JSON of the header, as a stream of events: no tree is built, so memory grows with what the header describes and
// nesting costs no stack.
#include <algorithm>
#include <nlohmann/json.hpp>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/safetensors/dtypes.h>
#include <trinix/core/safetensors/header_text.h>

namespace trinix::safetensors {

namespace {

constexpr int kDeepest = 128;
constexpr std::uint64_t kLargestDim = std::uint64_t{1} << 53;  // beyond it JSON's numbers are not safe anywhere

/// Receives the parser's events. Throws FormatError at the first that the format does not allow.
class HeaderEvents {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  HeaderEvents(std::string_view file, HeaderText& out) : file_(file), out_(out) {}

  bool null() {
    // The reference implementation takes null metadata for none.
    if (place_ == Place::top && in_metadata_) return true;
    return value("null");
  }
  bool boolean(bool) { return value("a boolean"); }
  bool number_integer(number_integer_t v) { return number(std::to_string(v)); }
  bool number_float(number_float_t, const string_t& text) { return number(text.substr(0, 40)); }
  bool number_unsigned(number_unsigned_t v) {
    if (place_ == Place::shape) {
      if (v > kLargestDim) fail_tensor("dim {} of the shape is {}, more than 2^53", tensor().shape.size(), v);
      tensor().shape.push_back(static_cast<std::int64_t>(v));
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_seen_ >= 2) fail_tensor("data_offsets must hold two numbers, it holds more");
      (offsets_seen_++ == 0 ? tensor().begin : tensor().end) = v;
      return true;
    }
    return number(std::to_string(v));
  }
  bool string(string_t& text) {
    if (place_ == Place::metadata) {
      out_.metadata.emplace_back(std::move(key_), std::move(text));
      return true;
    }
    if (place_ != Place::tensor || field_ != Field::dtype) return value("a string");
    const FileDtype* found = find_dtype(text);
    if (found == nullptr) {
      fail_tensor("unknown dtype {}; those that can be read are {}", shown_name(text), readable_names());
    }
    tensor().dtype_name = found->name;
    tensor().dtype = found->dtype;
    return true;
  }
  bool binary(binary_t&) { return true; }  // not in JSON

  bool start_object(std::size_t) {
    enter();
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top && in_metadata_) {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      place_ = Place::tensor;
      fields_seen_ = 0;
    } else {
      nested("an object");
    }
    return true;
  }
  bool end_object() {
    --depth_;
    if (place_ == Place::ignored) {
      leave_ignored();
    } else if (place_ == Place::tensor) {
      check_complete();
      place_ = Place::top;
    } else {
      place_ = place_ == Place::metadata ? Place::top : Place::outside;
    }
    return true;
  }
  bool start_array(std::size_t) {
    enter();
    if (place_ == Place::tensor && field_ == Field::shape) {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && field_ == Field::offsets) {
      place_ = Place::offsets;
      offsets_seen_ = 0;
    } else {
      nested("an array");
    }
    return true;
  }
  bool end_array() {
    --depth_;
    if (place_ == Place::ignored) {
      leave_ignored();
      return true;
    }
    if (place_ == Place::offsets && offsets_seen_ != 2) {
      fail_tensor("data_offsets must hold two numbers, it holds {}", offsets_seen_);
    }
    place_ = Place::tensor;
    return true;
  }
  bool key(string_t& text) {
    if (place_ == Place::top) {
      in_metadata_ = text == kMetadataKey;
      if (in_metadata_ && metadata_seen_) fail_file("the key {} appears twice", shown_name(text));
      if (in_metadata_) {
        metadata_seen_ = true;
      } else {
        out_.tensors.emplace_back().name = std::move(text);
      }
    } else if (place_ == Place::metadata) {
      key_ = std::move(text);
    } else if (place_ == Place::tensor) {
      field_ = field_of(text);
      const unsigned bit = 1U << static_cast<unsigned>(field_);
      if (field_ != Field::other && (fields_seen_ & bit) != 0)
        fail_tensor("the key {} appears twice", shown_name(text));
      fields_seen_ |= bit;
    }
    return true;
  }

  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception& problem) {
    fail_file("the header is not JSON: byte {} of it: {}", position, reason_of(problem.what()));
    return false;
  }

 private:
  enum class Place { outside, top, metadata, tensor, shape, offsets, ignored };
  enum class Field : unsigned { dtype, shape, offsets, other };

  static Field field_of(std::string_view name) {
    if (name == "dtype") return Field::dtype;
    if (name == "shape") return Field::shape;
    if (name == "data_offsets") return Field::offsets;
    return Field::other;
  }

  /// The parser's text without its prefix and without the piece of input that it quotes, which may be any bytes.
  static std::string reason_of(std::string_view text) {
    if (text.starts_with('[')) text.remove_prefix(std::min(text.find("] ") + 2, text.size()));
    if (const auto dash = text.find(" - "); dash != std::string_view::npos) text.remove_prefix(dash + 3);
    text = text.substr(0, text.find("; last read"));
    text = text.substr(0, text.find("; expected"));
    std::string reason(text.substr(0, 120));
    for (char& c : reason) {
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
    }
    return reason;
  }

  SafetensorsInfo& tensor() { return out_.tensors.back(); }

  void enter() {
    if (++depth_ > kDeepest) fail_file("the header is nested more than {} deep", kDeepest);
  }

  bool number(const std::string& text) {
    if (place_ == Place::shape) {
      fail_tensor("dim {} of the shape is {}, not a whole number from 0 to 2^53", tensor().shape.size(), text);
    }
    if (place_ == Place::offsets) fail_tensor("data_offsets holds {}, not a byte position", text);
    return value("a number");
  }

  /// A value other than the one that belongs here; passed over in fields that the format does not define.
  bool value(const char* what) {
    switch (place_) {
      case Place::outside:
        fail_file("the header is {}, not an object", what);
      case Place::top:
        if (in_metadata_) fail_file("{} is {}, not an object", kMetadataKey, what);
        fail_tensor("its entry is {}, not an object", what);
      case Place::metadata:
        fail_file("{}: {} is {}, not a string", kMetadataKey, shown_name(key_), what);
      case Place::shape:
        fail_tensor("dim {} of the shape is {}, not a number", tensor().shape.size(), what);
      case Place::offsets:
        fail_tensor("data_offsets holds {}, not a byte position", what);
      case Place::tensor:
        if (field_ == Field::dtype) fail_tensor("dtype is {}, not a string", what);
        if (field_ == Field::shape) fail_tensor("shape is {}, not an array", what);
        if (field_ == Field::offsets) fail_tensor("data_offsets is {}, not an array", what);
        return true;
      case Place::ignored:
        return true;
    }
    return true;
  }

  /// An object or array where the format has none.
  void nested(const char* what) {
    value(what);
    if (place_ != Place::ignored) ignored_from_ = depth_;
    place_ = Place::ignored;
  }
  void leave_ignored() {
    if (depth_ < ignored_from_) place_ = Place::tensor;
  }

  void check_complete() {
    constexpr const char* kFields[] = {"dtype", "shape", "data_offsets"};
    for (unsigned i = 0; i < 3; ++i) {
      if ((fields_seen_ & (1U << i)) == 0) fail_tensor("its entry has no {}", kFields[i]);
    }
  }

  template <class... Args>
  [[noreturn]] void fail_file(std::string_view text, const Args&... args) {
    detail::fail<FormatError>("safetensors", "{}: {}", shown_name(file_), detail::format(text, args...));
  }
  template <class... Args>
  [[noreturn]] void fail_tensor(std::string_view text, const Args&... args) {
    fail_file("tensor {}: {}", shown_name(tensor().name), detail::format(text, args...));
  }

  std::string_view file_;
  HeaderText& out_;
  Place place_ = Place::outside;
  int depth_ = 0;
  bool in_metadata_ = false;
  bool metadata_seen_ = false;
  std::string key_;  // of the metadata
  Field field_ = Field::other;
  unsigned fields_seen_ = 0;
  int offsets_seen_ = 0;
  int ignored_from_ = 0;
};

}  // namespace

HeaderText parse_json(std::string_view json, std::string_view file) {
  // The parser takes a zero byte for the end of its input and skips a byte order mark; the format has neither.
  const auto zero = json.find('\0');
  if (zero != std::string_view::npos) {
    detail::fail<FormatError>("safetensors", "{}: the header is not JSON: byte {} of it is zero", shown_name(file),
                              zero);
  }
  if (json.starts_with("\xef\xbb\xbf")) {
    detail::fail<FormatError>("safetensors", "{}: the header begins with a byte order mark", shown_name(file));
  }
  if (json.empty()) {
    detail::fail<FormatError>("safetensors", "{}: the header is empty", shown_name(file));
  }
  HeaderText text;
  HeaderEvents events(file, text);
  nlohmann::json::sax_parse(json.begin(), json.end(), &events);
  return text;
}

}  // namespace trinix::safetensors
