// SPDX-License-Identifier: Apache-2.0
// Codes as exceptions.
#include "crossdock/error.hpp"

#include <gtest/gtest.h>

#include <typeinfo>

namespace crossdock {
namespace {

/// The class that raise() throws for `code`, which it must carry, as it must the text.
const std::type_info& thrown_for(StatusCode code) {
  try {
    raise(code, "a text");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_STREQ(error.what(), "a text");
    return typeid(error);
  }
}

TEST(Raise, ThrowsTheClassOfEveryStatusInTheList) {
#define XD_EXPECT(name, ...)                                                                            \
  EXPECT_EQ(thrown_for(StatusCode::name),                                                               \
            StatusCode::name == StatusCode::ok ? typeid(Error) : typeid(StatusError<StatusCode::name>)) \
      << #name;
  XD_STATUSES(XD_EXPECT)
#undef XD_EXPECT
  EXPECT_EQ(thrown_for(static_cast<StatusCode>(200)), typeid(Error));  // no status
}

}  // namespace
}  // namespace crossdock
