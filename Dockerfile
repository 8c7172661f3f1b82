# One image per binary: docker build --build-arg BINARY=controllers -t manager . (or receiver, or hack/pbxsim)
FROM golang:1.26 AS build
ARG BINARY=controllers
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /app ./${BINARY}

FROM gcr.io/distroless/static:nonroot
COPY --from=build /app /app
USER 65532:65532
ENTRYPOINT ["/app"]
