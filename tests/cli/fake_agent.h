// SPDX-License-Identifier: Apache-2.0
// fake_agent.h -- an agent that answers with what a test put into it, and remembers what it was asked; and a
// command line that talks to it.
#pragma once

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "api/status.h"
#include "cli/cli.h"
#include "ivds.grpc.pb.h"

namespace ivds::test {

namespace pb = ::ivds::v1;

// gRPC calls these from its own threads, one at a time as the command line makes one call at a time.
class FakeAgent final : public pb::Switch::Service {
public:
    std::optional<Error> failure;  // what every call answers with
    bool silent = false;           // never answers
    std::string interrupted_at;    // the user presses Ctrl-C while this call is answered, once

    pb::Config config;
    pb::ObjectList objects;
    pb::Object object;  // of Create, Update and Get; empty: what was asked for
    pb::ApplyReply applied;
    pb::StatusReply status_reply;
    std::vector<pb::StatsReply> stats_replies;  // one after the other; the last one stays
    std::vector<pb::FdbEntry> fdb;
    std::vector<pb::BindingEntry> bindings;
    std::vector<pb::NeighbourEntry> neighbours;
    pb::NeighboursRequest neighbours_request;
    std::vector<pb::FlowState> flows;
    pb::FlowsRequest flows_request;
    std::vector<pb::Event> events;
    pb::DoctorReply doctor_reply;
    pb::HostsReply hosts_reply;
    pb::NicReply nics;
    pb::MapReply map;
    pb::TraceReply trace_reply;
    pb::RulesReply rules_reply;
    pb::OffloadReply offload_reply;  // without a NIC: one that the call makes up
    pb::OffloadRequest offload_request;
    pb::VerifyReply verify_reply;
    pb::VerifyRequest verify_request;
    pb::RulesRequest rules_request;
    std::vector<pb::CapturePacket> packets;
    pb::CaptureRequest capture_request;
    std::vector<pb::TraceRequest> trace_requests;
    pb::MigrateReply migrate_reply;
    std::vector<pb::MigrateRequest> migrate_requests;
    std::map<pb::MigrateRequest::Step, Error> migrate_failures;
    std::uint32_t removed = 0;
    std::string vmac;

    pb::ApplyRequest apply_request;
    pb::PutRequest put_request;
    pb::Ref ref;
    pb::Kind listed = pb::KIND_NONE;
    pb::VmacRequest vmac_request;
    pb::FdbRequest fdb_request;
    pb::BindingsRequest bindings_request;
    pb::FlushRequest flush_request;
    pb::EventsRequest events_request;
    pb::DoctorRequest doctor_request;
    pb::NicRequest nic_request;
    pb::MapRequest map_request;
    std::vector<std::string> calls;

    grpc::Status Apply(grpc::ServerContext* context, const pb::ApplyRequest* request,
                       pb::ApplyReply* reply) override {
        apply_request = *request;
        return answer(context, "Apply", applied, reply);
    }
    grpc::Status Export(grpc::ServerContext* context, const pb::ExportRequest*, pb::Config* reply) override {
        return answer(context, "Export", config, reply);
    }
    grpc::Status Create(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) override {
        put_request = *request;
        return answer(context, "Create", object.kind_case() == 0 ? request->object() : object, reply);
    }
    grpc::Status Update(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) override {
        put_request = *request;
        return answer(context, "Update", request->object(), reply);
    }
    grpc::Status Delete(grpc::ServerContext* context, const pb::Ref* request, pb::Done* reply) override {
        ref = *request;
        return answer(context, "Delete", pb::Done{}, reply);
    }
    grpc::Status Get(grpc::ServerContext* context, const pb::Ref* request, pb::Object* reply) override {
        ref = *request;
        return answer(context, "Get", object, reply);
    }
    grpc::Status List(grpc::ServerContext* context, const pb::ListRequest* request, pb::ObjectList* reply) override {
        listed = request->kind();
        return answer(context, "List", objects, reply);
    }
    grpc::Status ReserveVmac(grpc::ServerContext* context, const pb::VmacRequest* request,
                             pb::VmacReply* reply) override {
        vmac_request = *request;
        pb::VmacReply it;
        it.set_vmac(vmac);
        return answer(context, "ReserveVmac", it, reply);
    }
    grpc::Status ReleaseVmac(grpc::ServerContext* context, const pb::VmacRequest* request, pb::Done* reply) override {
        vmac_request = *request;
        return answer(context, "ReleaseVmac", pb::Done{}, reply);
    }
    grpc::Status Status(grpc::ServerContext* context, const pb::StatusRequest*, pb::StatusReply* reply) override {
        return answer(context, "Status", status_reply, reply);
    }
    grpc::Status Stats(grpc::ServerContext* context, const pb::StatsRequest*, pb::StatsReply* reply) override {
        const pb::StatsReply now = stats_replies.empty() ? pb::StatsReply{} : stats_replies.front();
        if (stats_replies.size() > 1) stats_replies.erase(stats_replies.begin());
        return answer(context, "Stats", now, reply);
    }
    grpc::Status Fdb(grpc::ServerContext* context, const pb::FdbRequest* request,
                     grpc::ServerWriter<pb::FdbEntry>* writer) override {
        fdb_request = *request;
        for (const pb::FdbEntry& entry : fdb) writer->Write(entry);
        return answer(context, "Fdb", pb::Done{}, static_cast<pb::Done*>(nullptr));
    }
    grpc::Status Bindings(grpc::ServerContext* context, const pb::BindingsRequest* request,
                          grpc::ServerWriter<pb::BindingEntry>* writer) override {
        bindings_request = *request;
        for (const pb::BindingEntry& entry : bindings) writer->Write(entry);
        return answer(context, "Bindings", pb::Done{}, static_cast<pb::Done*>(nullptr));
    }
    grpc::Status Neighbours(grpc::ServerContext* context, const pb::NeighboursRequest* request,
                            grpc::ServerWriter<pb::NeighbourEntry>* writer) override {
        neighbours_request = *request;
        for (const pb::NeighbourEntry& entry : neighbours) writer->Write(entry);
        return answer(context, "Neighbours", pb::Done{}, static_cast<pb::Done*>(nullptr));
    }
    grpc::Status Flows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                       grpc::ServerWriter<pb::FlowState>* writer) override {
        flows_request = *request;
        for (const pb::FlowState& flow : flows) writer->Write(flow);
        return answer(context, "Flows", pb::Done{}, static_cast<pb::Done*>(nullptr));
    }
    grpc::Status FlushFlows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                            pb::FlushReply* reply) override {
        flows_request = *request;
        pb::FlushReply it;
        it.set_removed(removed);
        return answer(context, "FlushFlows", it, reply);
    }
    grpc::Status Migrate(grpc::ServerContext* context, const pb::MigrateRequest* request,
                         pb::MigrateReply* reply) override {
        migrate_requests.push_back(*request);
        if (const auto failed = migrate_failures.find(request->step()); failed != migrate_failures.end())
            return to_status(*context, failed->second);
        return answer(context, "Migrate", migrate_reply, reply);
    }
    grpc::Status Mirrors(grpc::ServerContext* context, const pb::MirrorsRequest*, pb::MirrorsReply* reply) override {
        return answer(context, "Mirrors", pb::MirrorsReply{}, reply);
    }
    grpc::Status Exporters(grpc::ServerContext* context, const pb::ExportersRequest*,
                           pb::ExportersReply* reply) override {
        pb::ExportersReply it;
        pb::ExporterState& exporter = *it.add_exporters();
        exporter.set_name("flows");
        exporter.set_flow_records(12);
        exporter.set_failed_records(3);
        return answer(context, "Exporters", it, reply);
    }
    grpc::Status Verify(grpc::ServerContext* context, const pb::VerifyRequest* request,
                        pb::VerifyReply* reply) override {
        verify_request = *request;
        return answer(context, "Verify", verify_reply, reply);
    }
    grpc::Status Offload(grpc::ServerContext* context, const pb::OffloadRequest* request,
                         pb::OffloadReply* reply) override {
        offload_request = *request;
        if (!offload_reply.nics().empty()) return answer(context, "Offload", offload_reply, reply);
        pb::OffloadReply it;
        pb::OffloadNic& nic = *it.add_nics();
        nic.set_uplink("up0");
        nic.set_netdev("eth1");
        nic.set_state("on");
        nic.set_chip("82599");
        nic.set_backend("kernel");
        nic.set_drifts(1);
        nic.set_last_drift("1 VFs, 0 addresses and 0 VLANs were not as they shall be");
        pb::NicTable& table = *nic.add_tables();
        table.set_name("vlans");
        table.set_used(3);
        table.set_reserved(1);
        table.set_size(64);
        pb::Placement& at = *nic.add_objects();
        at.set_kind("vport");
        at.set_name("web0");
        at.set_where("hw");
        at.set_reason("fits");
        at.set_text("the NIC carries it");
        return answer(context, "Offload", it, reply);
    }
    grpc::Status Inspectors(grpc::ServerContext* context, const pb::InspectorsRequest*,
                            pb::InspectorsReply* reply) override {
        pb::InspectorsReply it;
        pb::InspectorState& inspector = *it.add_inspectors();
        inspector.set_name("ips");
        inspector.set_up(true);
        inspector.set_listening(true);
        inspector.set_blocked(7);
        return answer(context, "Inspectors", it, reply);
    }
    grpc::Status Capture(grpc::ServerContext* context, const pb::CaptureRequest* request,
                         grpc::ServerWriter<pb::CapturePacket>* writer) override {
        capture_request = *request;
        for (const pb::CapturePacket& packet : packets) writer->Write(packet);
        return answer(context, "Capture", pb::Done{}, static_cast<pb::Done*>(nullptr));
    }
    grpc::Status Flush(grpc::ServerContext* context, const pb::FlushRequest* request,
                       pb::FlushReply* reply) override {
        flush_request = *request;
        pb::FlushReply it;
        it.set_removed(removed);
        return answer(context, "Flush", it, reply);
    }
    grpc::Status Events(grpc::ServerContext* context, const pb::EventsRequest* request,
                        grpc::ServerWriter<pb::Event>* writer) override {
        events_request = *request;
        for (const pb::Event& event : events) writer->Write(event);
        return answer(context, "Events", pb::Done{}, static_cast<pb::Done*>(nullptr));
    }
    grpc::Status Trace(grpc::ServerContext* context, const pb::TraceRequest* request,
                       pb::TraceReply* reply) override {
        trace_requests.push_back(*request);
        return answer(context, "Trace", trace_reply, reply);
    }
    grpc::Status Rules(grpc::ServerContext* context, const pb::RulesRequest* request,
                       pb::RulesReply* reply) override {
        rules_request = *request;
        return answer(context, "Rules", rules_reply, reply);
    }
    grpc::Status Doctor(grpc::ServerContext* context, const pb::DoctorRequest* request,
                        pb::DoctorReply* reply) override {
        doctor_request = *request;
        return answer(context, "Doctor", doctor_reply, reply);
    }
    grpc::Status Hosts(grpc::ServerContext* context, const pb::HostsRequest*, pb::HostsReply* reply) override {
        return answer(context, "Hosts", hosts_reply, reply);
    }
    grpc::Status Nics(grpc::ServerContext* context, const pb::NicRequest* request, pb::NicReply* reply) override {
        nic_request = *request;
        return answer(context, "Nics", nics, reply);
    }
    grpc::Status Map(grpc::ServerContext* context, const pb::MapRequest* request, pb::MapReply* reply) override {
        map_request = *request;
        return answer(context, "Map", map, reply);
    }

private:
    template <class Reply>
    grpc::Status answer(grpc::ServerContext* context, const char* call, const Reply& from, Reply* to) {
        calls.emplace_back(call);
        if (interrupted_at == call) {
            interrupted_at.clear();
            std::raise(SIGINT);
        }
        while (silent && !context->IsCancelled()) ::usleep(1000);
        if (failure) return to_status(*context, *failure);
        if (to != nullptr) *to = from;
        return grpc::Status::OK;
    }
};

struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
};

// A command line beside an agent of its own, or the one that it is given, in a directory of its own.
class Shell {
public:
    explicit Shell(pb::Switch::Service* other = nullptr) {
        std::string pattern = (std::filesystem::temp_directory_path() / "ivds-cli-XXXXXX").string();
        directory_ = ::mkdtemp(pattern.data());
        grpc::ServerBuilder builder;
        builder.AddListeningPort("unix:" + socket(), grpc::InsecureServerCredentials());
        builder.SetMaxSendMessageSize(256 * 1024 * 1024);
        builder.SetMaxReceiveMessageSize(256 * 1024 * 1024);
        builder.RegisterService(other != nullptr ? other : &agent);
        server_ = builder.BuildAndStart();
    }
    ~Shell() {
        stop_agent();
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }
    Shell(const Shell&) = delete;
    Shell& operator=(const Shell&) = delete;

    void stop_agent() {
        if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
        server_.reset();
    }
    [[nodiscard]] std::string socket() const { return directory_ + "/ivdsd.sock"; }
    [[nodiscard]] const std::string& directory() const { return directory_; }

    Outcome operator()(std::vector<std::string> words) {
        std::istringstream in(input);
        std::ostringstream out;
        std::ostringstream err;
        // Options of the root may stand anywhere; here they come last, but for the words of a completion.
        const std::vector<std::string> own = {
            "--socket", socket(), "--root", directory_ + "/no-pins", "--state-dir", directory_ + "/state"};
        const bool completion = !words.empty() && words.front() == "__complete";
        words.insert(completion ? words.begin() + 1 : words.end(), own.begin(), own.end());
        Outcome outcome;
        outcome.code = cli::run(words, {in, out, err, color});
        outcome.out = out.str();
        outcome.err = err.str();
        return outcome;
    }

    FakeAgent agent;
    std::string input;
    bool color = false;

private:
    std::string directory_;
    std::unique_ptr<grpc::Server> server_;
};

}  // namespace ivds::test
