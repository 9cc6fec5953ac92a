#include "temp_folder.h"

#include <clocale>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/core/error.h>
#include <trinix/tools/lib/config.h>
#include <trinix/tools/lib/number.h>

namespace trinix::tools {
namespace {

using test::error_of;
using test::TempFolder;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TrainConfig resolve(std::vector<ConfigChoice> file, std::vector<ConfigChoice> flags) {
  return resolve_config(file, flags);
}

std::string complaint(const std::string& name, const std::string& value) {
  return error_of<Error>([&] { (void)resolve({}, {{name, value, "--" + name}}); });
}

TEST(Number, IsReadStrictly) {
  EXPECT_EQ(parse_integer("42"), 42);
  EXPECT_EQ(parse_integer("-7"), -7);
  EXPECT_EQ(parse_integer("+7"), 7);
  EXPECT_EQ(parse_integer("9223372036854775807"), INT64_MAX);
  for (const char* bad :
       {"", " 1", "1 ", "1.0", "1e3", "0x10", "12abc", "9223372036854775808", "+-1", "++1", "-", "+"}) {
    EXPECT_EQ(parse_integer(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(parse_real("1e-3"), 0.001);
  EXPECT_EQ(parse_real("+.5"), 0.5);
  EXPECT_EQ(parse_real("-2"), -2.0);
  for (const char* bad : {"", "nan", "NaN", "-nan", "inf", "-inf", "infinity", "1e400", "-1e400", "1e-400", "0x1p3",
                          "1,5", "1.5 ", "1e", "1.5f", "."}) {
    EXPECT_EQ(parse_real(bad), std::nullopt) << bad;
  }
}

TEST(Number, IsWrittenSoThatItReadsBack) {
  for (const double value : {0.1, 1e-3, 1e-5, 123456.789, 1.0 / 3, 5e-324, 1.7976931348623157e308}) {
    EXPECT_EQ(parse_real(real_text(value)), value);
  }
  EXPECT_EQ(real_text(0.001), "0.001");
}

TEST(Number, DoesNotDependOnTheLocale) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  if (std::setlocale(LC_ALL, "de_DE.UTF-8") == nullptr) GTEST_SKIP() << "no locale with a decimal comma is installed";
  EXPECT_EQ(parse_real("1.5"), 1.5);
  EXPECT_EQ(parse_real("1,5"), std::nullopt);
  EXPECT_EQ(real_text(1.5), "1.5");
  std::setlocale(LC_ALL, before.c_str());
}

TEST(Config, PresetsAreNanoGpts) {
  const TrainConfig big = preset("shakespeare-char");
  EXPECT_EQ(big.layers, 6);
  EXPECT_EQ(big.heads, 6);
  EXPECT_EQ(big.width, 384);
  EXPECT_EQ(big.block, 256);
  EXPECT_EQ(big.batch, 64);
  EXPECT_EQ(big.dropout, 0.2);
  EXPECT_FALSE(big.bias);
  EXPECT_EQ(big.lr, 1e-3);
  EXPECT_EQ(big.min_lr, 1e-4);
  EXPECT_EQ(big.warmup, 100);
  EXPECT_EQ(big.iters, 5000);
  EXPECT_EQ(big.beta1, 0.9);
  EXPECT_EQ(big.beta2, 0.99);
  EXPECT_EQ(big.weight_decay, 0.1);
  EXPECT_EQ(big.clip, 1.0);
  EXPECT_EQ(big.grad_accum, 1);
  EXPECT_EQ(big.eval_interval, 250);
  EXPECT_EQ(big.eval_iters, 200);
  EXPECT_EQ(big.seed, 1337);
  const TrainConfig small = preset("char-cpu");
  EXPECT_EQ(small.layers, 4);
  EXPECT_EQ(small.heads, 4);
  EXPECT_EQ(small.width, 128);
  EXPECT_EQ(small.block, 64);
  EXPECT_EQ(small.batch, 12);
  EXPECT_EQ(small.dropout, 0);
  EXPECT_EQ(small.iters, 2000);
  EXPECT_EQ(small.lr, 3e-3);
  EXPECT_EQ(small, TrainConfig());
  for (const auto& name : preset_names()) EXPECT_NO_THROW(validate(preset(name)));
  EXPECT_THAT(complaint("preset", "gpt5"), HasSubstr("no preset 'gpt5': choose one of char-cpu, shakespeare-char"));
}

TEST(Config, FlagsOverrideTheFileOverridesThePreset) {
  const TrainConfig config =
      resolve({{"preset", "shakespeare-char", "f"}, {"layers", "3", "f"}, {"min_lr", "2e-4", "f"}, {"seed", "5", "f"}},
              {{"layers", "2", "--layers"}, {"out", "x", "--out"}});
  EXPECT_EQ(config.preset, "shakespeare-char");
  EXPECT_EQ(config.block, 256);
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.min_lr, 2e-4);
  EXPECT_EQ(config.seed, 5);
  EXPECT_EQ(config.out, "x");
  EXPECT_THAT(config.chosen, UnorderedElementsAre("preset", "layers", "min-lr", "seed", "out"));
  EXPECT_EQ(resolve({{"preset", "shakespeare-char", "f"}}, {{"preset", "char-cpu", "--preset"}}).block, 64);
}

TEST(Config, ComplainsInOneSentence) {
  EXPECT_EQ(complaint("heads", "5"),
            "[config] --heads 5 must divide --width 128, for each head takes an equal part of it");
  EXPECT_EQ(complaint("batch", "0"), "[config] --batch must be at least 1, not 0");
  EXPECT_EQ(complaint("batch", "-3"), "[config] --batch must be at least 1, not -3");
  EXPECT_EQ(complaint("batch", "two"), "[config] --batch must be a whole number, not 'two'");
  EXPECT_EQ(complaint("batch", "1.5"), "[config] --batch must be a whole number, not '1.5'");
  EXPECT_EQ(complaint("block", "99999999999"), "[config] --block must be at most 2147483647, not 99999999999");
  EXPECT_EQ(complaint("lr", "nan"), "[config] --lr must be a finite number, not 'nan'");
  EXPECT_EQ(complaint("lr", "1e400"), "[config] --lr must be a finite number, not '1e400'");
  EXPECT_EQ(complaint("lr", "0"), "[config] --lr must be a finite number above 0, not 0");
  EXPECT_EQ(complaint("lr", "-1e-3"), "[config] --lr must be a finite number above 0, not -0.001");
  EXPECT_EQ(complaint("lr", "1e-5"), "[config] --min-lr 0.0001 must not exceed --lr 1e-05");
  EXPECT_EQ(complaint("clip", "-1"), "[config] --clip must be a finite number of at least 0, not -1");
  EXPECT_EQ(complaint("dropout", "1"), "[config] --dropout must be at least 0 and below 1, not 1");
  EXPECT_EQ(complaint("iters", "0"), "[config] --iters must be at least 1, not 0");
  EXPECT_EQ(complaint("eval-iters", "-1"), "[config] --eval-iters must be at least 0, not -1");
  EXPECT_EQ(complaint("seed", "-1"), "[config] --seed must be at least 0, not -1");
  EXPECT_EQ(complaint("out", ""), "[config] --out must name a folder");
  EXPECT_EQ(complaint("tokenizer", "word"), "[config] there is no tokenizer 'word': choose one of char, byte");
  EXPECT_THAT(complaint("dtype", "i32"), HasSubstr("--dtype must be f32, f64, bf16 or f16, not i32"));
  EXPECT_THAT(complaint("dtype", "float"), HasSubstr("unknown dtype 'float'"));
  EXPECT_THAT(complaint("device", "tpu"), HasSubstr("unknown device 'tpu'"));
  EXPECT_THAT(complaint("resume", "yes"), HasSubstr("must be true or false"));
  EXPECT_THAT(complaint("learning-rate", "1"), HasSubstr("--learning-rate: there is no option of that name"));
  TrainConfig config;
  config.lr = std::nan("");
  EXPECT_THROW(validate(config), ConfigError);
}

TEST(Config, EachOptimizerBringsItsRecipe) {
  const TrainConfig lion = resolve({}, {{"optimizer", "lion", "--optimizer"}});
  EXPECT_LT(lion.lr, TrainConfig().lr);
  EXPECT_GT(lion.weight_decay, TrainConfig().weight_decay);
  const TrainConfig chosen = resolve({{"optimizer", "sgd", "f"}, {"preset", "shakespeare-char", "f"}},
                                     {{"lr", "0.7", "--lr"}, {"optimizer", "lion", "--optimizer"}});
  EXPECT_EQ(chosen.optimizer, "lion");
  EXPECT_EQ(chosen.lr, 0.7);
  EXPECT_EQ(chosen.weight_decay, recipe("shakespeare-char", "lion").weight_decay);
  EXPECT_EQ(recipe("shakespeare-char", "adamw"), preset("shakespeare-char"));
  for (const auto& optimizer : optimizer_names()) {
    for (const auto& name : preset_names()) {
      TrainConfig config = recipe(name, optimizer);
      for (const auto& schedule : schedule_names()) {
        config.schedule = schedule;
        EXPECT_NO_THROW(validate(config)) << name << " " << optimizer << " " << schedule;
      }
    }
  }
}

TEST(Config, RefusesAnOptionThatTheRunHasNoUseFor) {
  EXPECT_EQ(complaint("optimizer", "adagrad"),
            "[config] there is no optimizer 'adagrad': choose one of adamw, adam, lion, muon, sgd");
  EXPECT_EQ(complaint("schedule", "zigzag"),
            "[config] there is no schedule 'zigzag': choose one of constant, linear, cosine, wsd, polynomial, step, "
            "one-cycle, plateau");
  EXPECT_EQ(complaint("momentum", "0.5"),
            "[config] --momentum is an option of --optimizer sgd, muon, but this run has adamw");
  EXPECT_EQ(complaint("muon-lr", "0.1"), "[config] --muon-lr is an option of --optimizer muon, but this run has adamw");
  EXPECT_EQ(complaint("power", "3"), "[config] --power is an option of --schedule polynomial, but this run has cosine");
  EXPECT_EQ(complaint("loss-scale", "8"), "[config] --loss-scale is an option of --dtype f16, but this run has f32");
  const auto both = [](const char* schedule, const char* name, const char* value) {
    return error_of<ConfigError>([&] { (void)resolve({}, {{"schedule", schedule, ""}, {name, value, ""}}); });
  };
  EXPECT_THAT(both("constant", "min-lr", "1e-5"), HasSubstr("--min-lr is an option of --schedule linear, cosine,"));
  EXPECT_THAT(both("one-cycle", "warmup", "3"), HasSubstr("but this run has one-cycle"));
  EXPECT_EQ(both("wsd", "decay-steps", "1950"),
            "[config] --decay-steps 1950 and --warmup 100 do not fit into --iters 2000");
  EXPECT_THAT(both("plateau", "eval-interval", "0"), HasSubstr("follows the validation loss"));
  EXPECT_EQ(both("step", "gamma", "1"), "[config] --gamma must lie between 0 and 1, not 1");
  EXPECT_EQ(both("one-cycle", "start-lr", "1"), "[config] --start-lr 1 must not exceed --lr 0.003");
  EXPECT_EQ(complaint("beta1", "1"), "[config] --beta1 must be at least 0 and below 1, not 1");
  EXPECT_EQ(complaint("ema", "1"), "[config] --ema must be at least 0 and below 1, not 1");
}

TEST(Config, ReadsToml) {
  const auto choices = choices_from_toml(
      "\xEF\xBB\xBF# a run\r\n"
      "preset = \"shakespeare-char\"   # nanoGPT's\n"
      "\n"
      "data = 'C:\\text # 1.txt'\n"
      "out = \"a \\\"b\\\" \\u00e9\\n\"\n"
      "min_lr=2e-4\n"
      "  iters = 1_000\t\n"
      "bias = true",
      "run.toml");
  const TrainConfig config = resolve_config(choices, {});
  EXPECT_EQ(config.preset, "shakespeare-char");
  EXPECT_EQ(config.data, "C:\\text # 1.txt");
  EXPECT_EQ(config.out, "a \"b\" é\n");
  EXPECT_EQ(config.min_lr, 2e-4);
  EXPECT_EQ(config.iters, 1000);
  EXPECT_TRUE(config.bias);
}

TEST(Config, NamesFileAndLineOfATomlMistake) {
  const auto message = [](const char* text) {
    return error_of<Error>([&] { (void)resolve_config(choices_from_toml(text, "run.toml"), {}); });
  };
  EXPECT_EQ(message("seed = 1\nlayers"), "[config] 'run.toml', line 2: expected `key = value`");
  EXPECT_EQ(message("= 3"), "[config] 'run.toml', line 1: expected `key = value`");
  EXPECT_EQ(message("lr ="), "[config] 'run.toml', line 1: there is no value after '='");
  EXPECT_EQ(message("lr = 1e-3 2"), "[config] 'run.toml', line 1: what is '2' after the value?");
  EXPECT_EQ(
      message("data = input.txt"),
      "[config] 'run.toml', line 1: 'input.txt' is no number and no truth value; strings stand in quotation marks");
  EXPECT_THAT(message("data = xyz"), HasSubstr("quotation marks"));
  EXPECT_EQ(message("data = \"input.txt"), "[config] 'run.toml', line 1: the string has no end");
  EXPECT_EQ(message("data = \"a\\"),
            "[config] 'run.toml', line 1: a backslash in a string must start an escape such as "
            "\\n or \\\\");
  EXPECT_THAT(message("data = \"\\uD800\""), HasSubstr("no Unicode character"));
  EXPECT_THAT(message("[train]\nlr = 1"), HasSubstr("tables are not used here"));
  EXPECT_EQ(message("lr = \"0.1\""), "[config] 'lr' in 'run.toml', line 1 must be a number, not a string");
  EXPECT_EQ(message("\nlr = nan"), "[config] 'lr' in 'run.toml', line 2 must be a finite number, not 'nan'");
  EXPECT_EQ(message("iters = 1__0"), "[config] 'iters' in 'run.toml', line 1 must be a whole number, not '1__0'");
  EXPECT_EQ(message("depth = 3"), "[config] 'depth' in 'run.toml', line 1: there is no option of that name");
  EXPECT_EQ(message("min-lr = 1e-5\nmin_lr = 1e-5"),
            "[config] 'min_lr' in 'run.toml', line 2 is set for the second time");
}

TEST(Config, ReadsJson) {
  TempFolder folder;
  const auto path = folder.add("run.json", R"({"lr": 0.002, "layers": 2, "data": "é.txt", "resume": true})");
  const TrainConfig config = resolve_config(read_config_file(path), {});
  EXPECT_EQ(config.lr, 0.002);
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.data, "é.txt");
  EXPECT_TRUE(config.resume);
  const auto message = [](const char* text) {
    return error_of<Error>([&] { (void)resolve_config(choices_from_json(text, "run.json"), {}); });
  };
  EXPECT_THAT(message("{\"lr\": 1e400}"), HasSubstr("'run.json' is not valid JSON"));
  EXPECT_THAT(message("{\"lr\": NaN}"), HasSubstr("'run.json' is not valid JSON: parse error at line 1, column 8"));
  EXPECT_THAT(message("[]"), HasSubstr("'run.json' is not a JSON object"));
  EXPECT_THAT(message("{\"layers\": 2.5}"), HasSubstr("'layers' in 'run.json' must be a whole number, not '2.5'"));
  EXPECT_THAT(message("{\"layers\": \"2\"}"), HasSubstr("must be a number, not a string"));
  EXPECT_THAT(message("{\"layers\": null}"), HasSubstr("must be a string, a number, true or false"));
  EXPECT_THAT(message("{\"depth\": 1}"), HasSubstr("there is no option of that name"));
  EXPECT_THAT(error_of<IoError>([] { (void)read_config_file("/nowhere.toml"); }), HasSubstr("No such file"));
}

TEST(Config, ComesBackFromItsJson) {
  TrainConfig config = resolve({}, {{"preset", "shakespeare-char", ""},
                                    {"data", "a \"b\"\n.txt", ""},
                                    {"lr", "0.0030000000000000001", ""},
                                    {"seed", "9223372036854775807", ""},
                                    {"resume", "true", ""}});
  const TrainConfig again = config_from_json(to_json(config), "trainer.json");
  config.chosen.clear();
  EXPECT_EQ(again, config);
  EXPECT_THROW((void)config_from_json("{\"lr\": \"x\"}", "trainer.json"), ConfigError);
  config.data = "\xFF";
  EXPECT_NO_THROW((void)to_json(config));
}

TEST(Config, EveryMemberIsInTheTable) {
  // A member that was forgotten in the table would be lost in the checkpoint: change each one there is through the
  // table, and nothing may be left as it was.
  TrainConfig config;
  for (const ConfigField& field : config_fields()) {
    const std::string before = value_text(config, field);
    const bool is_text = std::holds_alternative<std::string TrainConfig::*>(field.member);
    const bool is_truth = std::holds_alternative<bool TrainConfig::*>(field.member);
    apply(config, {std::string(field.name),
                   is_text    ? "changed"
                   : is_truth ? (before == "true" ? "false" : "true")
                              : "77",
                   "test"});
    EXPECT_NE(value_text(config, field), before) << field.name;
    EXPECT_FALSE(field.help.empty());
  }
  EXPECT_EQ(config_fields().size(), 57U);
}

}  // namespace
}  // namespace trinix::tools
