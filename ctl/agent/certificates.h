// SPDX-License-Identifier: Apache-2.0
// certificates.h -- the files with which the agent serves by TLS. They are read again when they change: who connects
// from then on meets the new ones, and connections that there are go on. What cannot be used changes nothing.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "loader/error.h"
#include "loader/switch.h"

namespace ivds {

struct CertificateFiles {
    std::string cert;
    std::string key;
    std::string ca;        // of the clients
    bool metrics = false;  // those of --metrics-tls: one file has certificate and key, and clients show none

    [[nodiscard]] const char* option() const { return metrics ? "--metrics-tls" : "--listen"; }
};

class Certificates {
public:
    // Code::invalid where one of the files is not given, or not what it should be, or the key is not the
    // certificate's.
    [[nodiscard]] static Result<std::shared_ptr<Certificates>> open(CertificateFiles files);

    // Clients show a certificate of the authority, or there is no connection.
    [[nodiscard]] static std::shared_ptr<grpc::ServerCredentials> credentials(std::shared_ptr<Certificates> of);

    // Looks whether the files changed, and reads them if so. Whether connections from now on are made with others.
    bool look();
    // That what is in the files is not in use, and why.
    [[nodiscard]] std::optional<Finding> finding() const;

    // What a connection is made with, in PEM; a number one higher each time that it is another.
    struct Pem {
        std::string cert;
        std::string key;
        std::string ca;
    };
    [[nodiscard]] std::pair<Pem, std::uint64_t> now() const;

private:
    Certificates(CertificateFiles files, Pem pem);

    const CertificateFiles files_;
    std::string seen_;  // which files they were when they were looked at last

    mutable std::mutex mutex_;
    Pem pem_;
    std::uint64_t generation_ = 1;
    std::optional<Error> refused_;
};

}  // namespace ivds
