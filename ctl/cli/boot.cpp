// SPDX-License-Identifier: Apache-2.0
// boot.cpp -- a switch brought up step by step, in the order in which a server boots, each step acknowledged: control
// plane, NICs, vMACs, vNICs, instances, vPort configurations, and only then the mapping that lets frames pass.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <ostream>
#include <vector>

#include "api/codec.h"
#include "command.h"
#include "fields.h"
#include "model/rule.h"
#include "table.h"

namespace ivds::cli {
namespace {

pb::Ref ref_of(const pb::Object& object) {
    pb::Ref ref;
    ref.set_kind(kind_of(object));
    ref.set_name(name_of(object));
    return ref;
}

class Boot {
public:
    Boot(const Context& context, const pb::Config& config) : context_(context) {
        // Rules that name other objects come when those are there. Until then no instance forwards.
        const auto with_rules = [](const auto& list) {
            return std::ranges::any_of(list, [](const auto& object) { return has_names(object.rules()); });
        };
        const bool late =
            with_rules(config.vports()) || with_rules(config.profiles()) || with_rules(config.instances());

        add("control_plane", {}, [this] { return control_plane(); });
        each(config.tenants(), &pb::Object::mutable_tenant, "policy");
        each(config.inspectors(), &pb::Object::mutable_inspector, "policy");
        for (const pb::Profile& profile : config.profiles()) {
            pb::Profile early = profile;
            drop_names(*early.mutable_rules());
            const pb::Object staged = object_of(early, &pb::Object::mutable_profile);
            const pb::Object whole = object_of(profile, &pb::Object::mutable_profile);
            add("policy", staged, [this, staged, whole] { return put(staged, whole); });
        }
        for (const pb::Uplink& uplink : config.uplinks()) {
            const pb::Object object = object_of(uplink, &pb::Object::mutable_uplink);
            add("uplink", object, [this, object] { return put_uplink(object); });
        }
        each(config.vmac_pools(), &pb::Object::mutable_vmac_pool, "vmac_pool");
        each(config.vnics(), &pb::Object::mutable_vnic, "vnic");
        for (const pb::Instance& instance : config.instances()) {
            const pb::Object staged = object_of(early_instance(instance, late), &pb::Object::mutable_instance);
            const pb::Object whole = object_of(instance, &pb::Object::mutable_instance);
            add("instance", staged, [this, staged, whole] { return put(staged, whole); });
        }
        for (const pb::VPort& vport : config.vports()) {
            // A vPort of no instance passes nothing: its VM may send already, and reaches nobody.
            pb::VPort early = vport;
            early.clear_instance();
            drop_names(*early.mutable_rules());
            const pb::Object staged = object_of(early, &pb::Object::mutable_vport);
            const pb::Object whole = object_of(vport, &pb::Object::mutable_vport);
            add("vport", staged, [this, staged, whole] { return put(staged, whole); });
        }
        each(config.sets(), &pb::Object::mutable_set, "policy");
        for (const pb::VPort& vport : config.vports()) {
            pb::VPort bound = vport;
            drop_names(*bound.mutable_rules());
            const pb::Object staged = object_of(bound, &pb::Object::mutable_vport);
            const pb::Object whole = object_of(vport, &pb::Object::mutable_vport);
            add("map", staged, [this, staged, whole] { return complete(staged, whole); });
        }
        each(config.vport_pools(), &pb::Object::mutable_vport_pool, "policy");
        each(config.mirrors(), &pb::Object::mutable_mirror, "policy");
        each(config.exporters(), &pb::Object::mutable_exporter, "policy");
        rest(config.profiles(), &pb::Object::mutable_profile,
             [](const pb::Profile& profile) { return has_names(profile.rules()); });
        rest(config.vports(), &pb::Object::mutable_vport,
             [](const pb::VPort& vport) { return has_names(vport.rules()); });
        rest(config.instances(), &pb::Object::mutable_instance, [&](const pb::Instance& instance) {
            return early_instance(instance, late).SerializeAsString() != instance.SerializeAsString();
        });
    }

    void print_plan() const {
        for (std::size_t i = 0; i < steps_.size(); ++i) print(i, "planned", plan_text(steps_[i]));
    }

    Result<int> run() {
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            running_ = &steps_[i];
            const auto acknowledged = steps_[i].work();
            if (!acknowledged) {
                print(i, "failed", acknowledged.error().what);
                return std::unexpected(take_back(i, acknowledged.error()));
            }
            print(i, acknowledged->fresh ? "done" : "already_there", acknowledged->text);
        }
        return exit_ok;
    }

private:
    // What a step that succeeded says; one that found its object there takes nothing back.
    struct Acknowledged {
        bool fresh = true;
        std::string text;
    };
    struct Step {
        std::string phase;
        pb::Object object;  // none: the control plane
        std::function<Result<Acknowledged>()> work;
        std::function<Result<>()> undo;
    };

    template <class T>
    static pb::Object object_of(const T& message, T* (pb::Object::*mutable_object)()) {
        pb::Object object;
        *(object.*mutable_object)() = message;
        return object;
    }
    static bool names(const pb::Rule& rule) {
        return !rule.src_set().empty() || !rule.dst_set().empty() || !rule.mirror().empty() ||
               !rule.to_vport().empty() || !rule.to_pool().empty();
    }
    static bool has_names(const RuleList& rules) { return std::ranges::any_of(rules, names); }
    static void drop_names(RuleList& rules) {
        rules.erase(std::remove_if(rules.begin(), rules.end(), names), rules.end());
    }
    // What names vPorts waits until they are members.
    static pb::Instance early_instance(const pb::Instance& instance, bool late) {
        pb::Instance early = instance;
        auto* fdb = early.mutable_fdb();
        fdb->erase(std::remove_if(fdb->begin(), fdb->end(),
                                  [](const pb::StaticMac& entry) { return !entry.vport().empty(); }),
                   fdb->end());
        drop_names(*early.mutable_rules());
        if (late) early.set_draining(true);
        return early;
    }

    // Steps that give objects what they could not have before.
    template <class T, class Waits>
    void rest(const google::protobuf::RepeatedPtrField<T>& list, T* (pb::Object::*mutable_object)(), Waits&& waits) {
        for (const T& message : list) {
            if (!waits(message)) continue;
            const pb::Object whole = object_of(message, mutable_object);
            add("map", whole, [this, whole] { return complete(whole, whole); });
        }
    }
    template <class T>
    void each(const google::protobuf::RepeatedPtrField<T>& list, T* (pb::Object::*mutable_object)(),
              const char* phase) {
        for (const T& message : list) {
            const pb::Object object = object_of(message, mutable_object);
            add(phase, object, [this, object] { return put(object, object); });
        }
    }
    void add(const char* phase, const pb::Object& object, std::function<Result<Acknowledged>()> work) {
        steps_.push_back({phase, object, std::move(work), {}});
    }

    static std::string plan_text(const Step& step) {
        if (step.phase == "control_plane") return "the agent answers";
        if (step.phase == "uplink") return fmt::format("create, and probe {}", step.object.uplink().netdev());
        if (step.phase == "vport") return "create without its instance: frames are dropped (no_instance)";
        if (step.phase != "map") return "create";
        if (has_names(step.object.has_vport()     ? step.object.vport().rules()
                      : step.object.has_profile() ? step.object.profile().rules()
                                                  : step.object.instance().rules()))
            return "the rules that name other objects";
        if (step.object.has_vport())
            return !step.object.vport().trunk().empty()
                       ? fmt::format("bind to instance {}, behind a tag of {}", step.object.vport().instance(),
                                     step.object.vport().trunk())
                   : step.object.vport().has_vf()
                       ? fmt::format("bind to instance {}, VF {} of {}", step.object.vport().instance(),
                                     step.object.vport().vf().index(), step.object.vport().vf().pf())
                   : step.object.vport().patch().empty()
                       ? fmt::format("bind to instance {}, attach to {}", step.object.vport().instance(),
                                     step.object.vport().netdev())
                       : fmt::format("bind to instance {}, the patch to {}", step.object.vport().instance(),
                                     step.object.vport().patch());
        return step.object.instance().fdb().empty() ? "forward from now on" : "static MACs behind its vPorts";
    }

    void print(std::size_t index, const char* result, const std::string& text) const {
        const Step& step = steps_[index];
        pb::BootStep line;
        line.set_number(static_cast<std::uint32_t>(index + 1));
        line.set_phase(step.phase);
        line.set_kind(kind_of(step.object));
        line.set_name(name_of(step.object));
        line.set_result(result);
        line.set_text(text);
        if (context_.options.json) {
            context_.json(line);
            return;
        }
        const std::string what = line.name().empty() ? "control plane"
                                                     : fmt::format("{}{}", step.phase == "map" ? "map " : "",
                                                                   label(line.kind(), line.name()));
        const bool bad = line.result() == "failed" || line.result() == "not_taken_back";
        context_.io.out << fmt::format("{:>3}  {:<28}  ", line.number(), what)
                        << paint(fmt::format("{:<13}", line.result()),
                                 context_.io.color && bad ? Color::bad : Color::none)
                        << "  " << text << '\n'
                        << std::flush;
    }

    Result<Acknowledged> control_plane() {
        const auto status = context_.agent.status();
        if (!status) return std::unexpected(status.error());
        return Acknowledged{.fresh = false,
                            .text = fmt::format("ivdsd {}, generation {}", status->version(), status->generation())};
    }

    // `staged` is what is created; an object that is there may also be `whole` already.
    Result<Acknowledged> put(const pb::Object& staged, const pb::Object& whole) {
        const auto current = context_.agent.get(ref_of(staged));
        if (!current && current.error().code != Code::not_found) return std::unexpected(current.error());
        if (current) {
            // Creating what is there succeeds if it is the same, and then changes nothing.
            if (context_.agent.create(whole)) return Acknowledged{.fresh = false, .text = ""};
            if (auto same = context_.agent.create(staged); !same) return std::unexpected(same.error());
            return Acknowledged{.fresh = false, .text = ""};
        }
        const auto created = context_.agent.create(staged);
        if (!created) return std::unexpected(created.error());
        undo([this, ref = ref_of(staged)]() -> Result<> {
            if (auto removed = context_.agent.remove(ref); !removed) return std::unexpected(removed.error());
            return {};
        });
        std::string text;
        if (created->has_vnic()) text = "vMAC " + created->vnic().vmac();
        if (created->has_instance()) text = fmt::format("V.VLAN {}", created->instance().vvlan());
        return Acknowledged{.fresh = true, .text = text};
    }

    Result<Acknowledged> put_uplink(const pb::Object& object) {
        auto done = put(object, object);
        if (!done) return done;
        pb::NicRequest request;
        request.set_name(object.uplink().name());
        const auto probed = context_.agent.nics(request);
        if (!probed) return std::unexpected(probed.error());
        const pb::NicState& nic = probed->nics(0);
        if (nic.port().got() == "none" || nic.netdev().ifindex() == 0)
            return fail(
                Code::unavailable, "IVDS-U017",
                fmt::format("the NIC {} carries no program: {}", object.uplink().netdev(), nic.port().reason()),
                "see `ivds-ctl doctor`");
        done->text = fmt::format("{} ({}), link {}, {}", nic.netdev().name(), nic.netdev().driver(),
                                 nic.netdev().link(), nic.port().got());
        return done;
    }

    // Gives an object that was staged more, up to `staged`; one that is `whole` already stays.
    Result<Acknowledged> complete(const pb::Object& staged, const pb::Object& whole) {
        const auto current = context_.agent.get(ref_of(whole));
        if (!current) return std::unexpected(current.error());
        const bool fresh = !context_.agent.create(whole);
        if (fresh) {
            if (auto updated = context_.agent.update(staged); !updated) return std::unexpected(updated.error());
            undo([this, before = *current]() -> Result<> {
                if (auto back = context_.agent.update(before); !back) return std::unexpected(back.error());
                return {};
            });
        }
        if (!whole.has_vport()) return Acknowledged{.fresh = fresh, .text = ""};
        const auto status = context_.agent.status();
        if (!status) return std::unexpected(status.error());
        const auto port = std::ranges::find(status->ports(), whole.vport().name(), &pb::PortState::name);
        if (port == status->ports().end()) return Acknowledged{.fresh = fresh, .text = ""};
        return Acknowledged{
            .fresh = fresh,
            .text = port->up()
                        ? port->netdev().empty() ? port->got() : fmt::format("{} at {}", port->got(), port->netdev())
                        : fmt::format("waits: {}", port->last_error())};
    }

    void undo(std::function<Result<>()> inverse) { running_->undo = std::move(inverse); }

    Error take_back(std::size_t failed, const Error& cause) {
        std::size_t taken = 0;
        std::size_t stuck = 0;
        for (std::size_t i = failed + 1; i-- > 0;) {
            if (!steps_[i].undo) continue;
            const auto undone = steps_[i].undo();
            print(i, undone ? "taken_back" : "not_taken_back", undone ? "" : undone.error().what);
            ++(undone ? taken : stuck);
        }
        Error error = cause.in(fmt::format("step {}", failed + 1));
        error.what += stuck == 0 ? fmt::format("; what the steps before it made is taken back ({} steps)", taken)
                                 : fmt::format("; {} steps could not be taken back", stuck);
        return error;
    }

    const Context& context_;
    std::vector<Step> steps_;
    Step* running_ = nullptr;
};

}  // namespace

void add_boot_command(Commands& commands) {
    struct Words {
        std::string file;
        bool plan = false;
    };
    auto words = std::make_shared<Words>();
    CLI::App& app = commands.leaf(
        commands.root(), "boot", "Bring a switch up from a file, step by step; a failed step takes all back",
        "ivds-ctl boot -f host-a.yaml --plan\nivds-ctl boot -f host-a.yaml\n"
        "The order: control plane, quotas and profiles, uplinks with a probe of their NICs, vMAC\n"
        "pools, vNICs, instances, vPort configurations, and the mapping that lets frames pass.\n"
        "Objects that are there and the same stay, also when a later step fails. In contrast to\n"
        "apply, what the file lacks is not removed.",
        [words](const Context& context) -> Result<int> {
            const auto config = read_config(context.io, words->file);
            if (!config) return std::unexpected(config.error());
            Boot boot(context, *config);
            if (!words->plan) return boot.run();
            boot.print_plan();
            return exit_ok;
        });
    add_value(app, "-f,--file", "FILE", words->file, "configuration in YAML; - reads standard input").required();
    app.add_flag("--plan", words->plan, "print the steps and do none");
}

}  // namespace ivds::cli
