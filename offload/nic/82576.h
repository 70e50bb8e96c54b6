// SPDX-License-Identifier: Apache-2.0
// 82576.h -- Intel 82576: its capabilities, and the registers of its switch. Nothing else knows an offset or a bit.
//
// Names are those of the Linux driver igb and of the datasheet (320961), which differ little. Unlike on the 82599, an
// entry's pools are in the entry itself: RAH and VLVF hold a bit for each of the eight pools, so that an address or a
// VLAN changes its pools in one write.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nic/chip.h"
#include "nic/register_map.h"

namespace ivds::offload::i82576 {

[[nodiscard]] const Chip& chip();
[[nodiscard]] const RegisterMap& map();

enum class Reg : std::uint8_t {
    // Device
    status,
    ctrl_ext,
    vet,
    // Reception
    rctl,
    tctl,
    mta,
    ral,
    rah,
    vfta,
    mrqc,
    uta,
    etqf,
    rxdctl,
    txdctl,
    // Virtualization
    vfre,
    vfte,
    qde,
    dtxswc,
    dtxctl,
    vmvir,
    wvbr,
    vt_ctl,
    vmolr,
    rplolr,
    vlvf,
    // Statistics, of pools
    pvfgprc,
    pvfgptc,
    pvfgorc,
    pvfgotc,
    pvfmprc,
    end_of_list
};

[[nodiscard]] const Register& describe(Reg reg);
[[nodiscard]] std::uint32_t offset(Reg reg, unsigned element = 0);

// Fields, by register.
namespace status {
inline constexpr Field link_up{1}, speed{6, 2};  // speed 0, 1, else: 10, 100, 1,000 Mb/s
}
namespace ctrl_ext {
inline constexpr Field pfrstd{14}, extended_vlan{26};
}
namespace vet {  // the TPIDs: of the only tag or the inner one, and of the outer one
inline constexpr Field inner{0, 16}, outer{16, 16};
}
namespace rctl {
inline constexpr Field rxen{1}, upe{3}, mpe{4}, mo{12, 2}, bam{15}, vfe{18}, cfien{19}, cfi{20};
}
namespace etqf {
inline constexpr Field etype{0, 16}, filter_en{26}, queue_en{31};
}
namespace rxdctl {  // of a queue; pool n has queues n and n + 8
inline constexpr Field enable{25};
}
namespace txdctl {
inline constexpr Field enable{25};
}
namespace tctl {
inline constexpr Field en{1};
}
namespace rah {
inline constexpr Field address{0, 16}, pools{18, 8}, av{31};
}
namespace rplolr {  // of the copies of frames that several pools get
inline constexpr Field strvlan{30}, strcrc{31};
}
namespace mrqc {
inline constexpr Field enable{0, 3};
inline constexpr std::uint32_t vmdq = 3, vmdq_rss = 5;
}  // namespace mrqc
namespace dtxswc {  // by pool: checks of what it sends, and whether it may send to itself
inline constexpr Field mac_check{0, 8}, vlan_check{8, 8}, local_loopback{16, 8}, loopback{31};
}
namespace vmvir {
inline constexpr Field port_vlan{0, 16}, vlana{30, 2};
inline constexpr std::uint32_t by_descriptor = 0, always = 1, never = 2;
}  // namespace vmvir
namespace vt_ctl {
inline constexpr Field def_pl{7, 3}, dis_def_pl{29}, rpl_en{30};
}
namespace vmolr {
inline constexpr Field rlpml{0, 14}, lpe{16}, rsse{17}, aupe{24}, rompe{25}, rope{26}, bam{27}, mpme{28}, strvlan{30},
    strcrc{31};
}
namespace vlvf {
inline constexpr Field vlan_id{0, 12}, pools{12, 8}, lvlan{20}, vi_en{31};
}

}  // namespace ivds::offload::i82576
