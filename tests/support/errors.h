#pragma once

#include <gtest/gtest.h>
#include <string>
#include <type_traits>
#include <typeinfo>

#include <trinix/core/error.h>

/// @file
/// Tests of errors compare type and text: an error that cannot be understood is a fault of its own.

namespace trinix::testing {

/// The text of the error that f() throws, which must be exactly an E, not a relative of it; for E = Error, any of ours.
template <class E = Error, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    if (!std::is_same_v<E, Error>) {
      EXPECT_STREQ(typeid(error).name(), typeid(E).name());
    }
    return error.what();
  } catch (const std::exception& error) {
    return std::string("an error of another type: ") + error.what();
  }
  return "no error";
}

}  // namespace trinix::testing
