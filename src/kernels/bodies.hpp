// SPDX-License-Identifier: Apache-2.0
// All kernel bodies; for launch files and compile checks.
#pragma once

#include "kernels/combine_device.hpp"
#include "kernels/combine_packets_device.hpp"
#include "kernels/dispatch_device.hpp"
#include "kernels/dispatch_packets_device.hpp"
#include "kernels/expert_rows_few_device.hpp"
