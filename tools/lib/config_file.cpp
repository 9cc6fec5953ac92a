#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/config.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/number.h>
#include <trinix/tools/lib/utf8.h>

// Reading and writing TrainConfig as TOML (the flat part of it) and JSON.

namespace trinix::tools {

namespace {

/// What a file's syntax says a value is.
enum class Kind { string, number, boolean };

/// A number in quotation marks, or a bare word where a string belongs, is a mistake worth telling.
void check_kind(const ConfigChoice& choice, Kind kind) {
  const ConfigField* field = find_field(choice.name);
  if (field == nullptr) detail::fail<ConfigError>("config", "{}: there is no option of that name", choice.source);
  const Kind wanted = std::holds_alternative<std::string TrainConfig::*>(field->member) ? Kind::string
                      : std::holds_alternative<bool TrainConfig::*>(field->member)      ? Kind::boolean
                                                                                        : Kind::number;
  if (kind == wanted) return;
  const std::string_view names[] = {"a string", "a number", "true or false"};
  detail::fail<ConfigError>("config", "{} must be {}, not {}", choice.source, names[static_cast<int>(wanted)],
                            names[static_cast<int>(kind)]);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

/// Reads one line `key = value  # comment` of TOML 1.0.
class TomlLine {
 public:
  TomlLine(std::string_view line, std::string_view source, int number)
      : rest_(trimmed(line)), source_(source), number_(number) {}

  [[nodiscard]] bool is_blank() const { return rest_.empty() || rest_.front() == '#'; }

  ConfigChoice read() {
    if (rest_.front() == '[') fail("tables are not used here: write all options as `key = value`");
    ConfigChoice choice;
    const std::size_t equals = rest_.find('=');
    choice.name = trimmed(rest_.substr(0, equals));
    if (equals == std::string_view::npos || choice.name.empty()) fail("expected `key = value`");
    choice.source = detail::format("'{}' in '{}', line {}", choice.name, source_, number_);
    rest_ = trimmed(rest_.substr(equals + 1));
    if (rest_.empty()) fail("there is no value after '='");
    const Kind kind = read_value(choice.value);
    rest_ = trimmed(rest_);
    if (!is_blank()) fail(detail::format("what is '{}' after the value?", rest_));
    check_kind(choice, kind);
    return choice;
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    detail::fail<FormatError>("config", "'{}', line {}: {}", source_, number_, what);
  }

  Kind read_value(std::string& value) {
    if (rest_.front() == '"') return read_basic_string(value);
    if (rest_.front() == '\'') {
      const std::size_t end = rest_.find('\'', 1);
      if (end == std::string_view::npos) fail("the string has no end");
      value = rest_.substr(1, end - 1);
      rest_.remove_prefix(end + 1);
      return Kind::string;
    }
    value = rest_.substr(0, rest_.find_first_of(" \t#"));
    rest_.remove_prefix(value.size());
    if (value == "true" || value == "false") return Kind::boolean;
    const bool is_special = value == "nan" || value == "inf";  // TOML has them; no option takes them
    if (!is_special && std::string_view("+-.0123456789").find(value.front()) == std::string_view::npos) {
      fail(detail::format("'{}' is no number and no truth value; strings stand in quotation marks", value));
    }
    // 1_000 is a number with its underscores between digits; any other underscore stays, and is refused later.
    for (std::size_t i = 1; i + 1 < value.size(); ++i) {
      const auto digit = [&](std::size_t at) { return value[at] >= '0' && value[at] <= '9'; };
      if (value[i] == '_' && digit(i - 1) && digit(i + 1)) value.erase(i, 1);
    }
    return Kind::number;
  }

  Kind read_basic_string(std::string& value) {
    std::size_t i = 1;
    for (; i < rest_.size() && rest_[i] != '"'; ++i) {
      if (rest_[i] != '\\') {
        value += rest_[i];
        continue;
      }
      ++i;
      const char c = i < rest_.size() ? rest_[i] : '\0';
      constexpr std::string_view codes = "btnfr\"\\";
      constexpr std::string_view meanings = "\b\t\n\f\r\"\\";
      const std::size_t known = codes.find(c);
      if (c != '\0' && known != std::string_view::npos) {
        value += meanings[known];
      } else if (c == 'u' || c == 'U') {
        i = read_code_point(value, i, c == 'u' ? 4 : 8);
      } else {
        fail("a backslash in a string must start an escape such as \\n or \\\\");
      }
    }
    if (i >= rest_.size()) fail("the string has no end");
    rest_.remove_prefix(i + 1);
    return Kind::string;
  }

  /// @returns the position of the escape's last digit
  std::size_t read_code_point(std::string& value, std::size_t letter, std::size_t digits) const {
    const std::string_view text = rest_.substr(letter + 1, digits);
    std::uint32_t code = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), code, 16);
    if (error != std::errc() || text.size() != digits || end != text.data() + digits || code > 0x10FFFF ||
        (code >= 0xD800 && code < 0xE000)) {
      fail("the escape is no Unicode character");
    }
    utf8::append(value, code);
    return letter + digits;
  }

  std::string_view rest_;
  std::string_view source_;
  int number_;
};

/// Parses a JSON object. @throws FormatError with line and column
nlohmann::ordered_json parse_object(std::string_view text, std::string_view source) {
  nlohmann::ordered_json json;
  try {
    json = nlohmann::ordered_json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    std::string_view what = error.what();
    const std::size_t bracket = what.find("] ");
    if (bracket != std::string_view::npos) what.remove_prefix(bracket + 2);
    detail::fail<FormatError>("config", "'{}' is not valid JSON: {}", source, what);
  }
  if (!json.is_object()) detail::fail<FormatError>("config", "'{}' is not a JSON object", source);
  return json;
}

}  // namespace

std::vector<ConfigChoice> choices_from_toml(std::string_view text, std::string_view source) {
  std::vector<ConfigChoice> choices;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    TomlLine line(text.substr(0, end), source, ++number);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.is_blank()) continue;
    choices.push_back(line.read());
    const auto same = [&](const ConfigChoice& c) { return find_field(c.name) == find_field(choices.back().name); };
    if (std::find_if(choices.begin(), choices.end() - 1, same) != choices.end() - 1) {
      detail::fail<FormatError>("config", "{} is set for the second time", choices.back().source);
    }
  }
  return choices;
}

std::vector<ConfigChoice> choices_from_json(std::string_view text, std::string_view source) {
  std::vector<ConfigChoice> choices;
  const nlohmann::ordered_json json = parse_object(text, source);
  for (const auto& [key, value] : json.items()) {
    ConfigChoice choice{key, "", detail::format("'{}' in '{}'", key, source)};
    Kind kind = Kind::number;
    if (value.is_string()) {
      kind = Kind::string;
      choice.value = value.get<std::string>();
    } else if (value.is_boolean()) {
      kind = Kind::boolean;
      choice.value = value.get<bool>() ? "true" : "false";
    } else if (value.is_number_float()) {
      choice.value = real_text(value.get<double>());
    } else if (value.is_number()) {
      choice.value = value.dump();
    } else {
      detail::fail<ConfigError>("config", "{} must be a string, a number, true or false", choice.source);
    }
    check_kind(choice, kind);
    choices.push_back(std::move(choice));
  }
  return choices;
}

std::vector<ConfigChoice> read_config_file(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  if (path.extension() == ".json") return choices_from_json(text, path.string());
  return choices_from_toml(text, path.string());
}

std::string to_json(const TrainConfig& config) {
  nlohmann::ordered_json json;
  for (const ConfigField& field : config_fields()) {
    std::string key(field.name);
    std::replace(key.begin(), key.end(), '-', '_');
    std::visit([&](auto member) { json[key] = config.*member; }, field.member);
  }
  // A path need not be UTF-8; what is not becomes U+FFFD rather than an exception while saving.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

TrainConfig config_from_json(std::string_view text, std::string_view source) {
  TrainConfig config;
  for (const ConfigChoice& choice : choices_from_json(text, source)) apply(config, choice);
  config.chosen.clear();
  return config;
}

}  // namespace trinix::tools
