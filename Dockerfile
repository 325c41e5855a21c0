# docker build -t hoopfast . && docker run -v ./etc:/etc/hoopfast:ro -v hoopfast:/var/lib/hoopfast -p 6432:6432 hoopfast
FROM python:3.12-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential libssl-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY hoopfast hoopfast
RUN python -m venv /srv/hoopfast && /srv/hoopfast/bin/pip install --no-cache-dir .

FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 6432 --home-dir /var/lib/hoopfast --shell /usr/sbin/nologin hoopfast \
 && install -d -o hoopfast -g hoopfast -m 0700 /var/lib/hoopfast
COPY --from=build /srv/hoopfast /srv/hoopfast
ENV PATH=/srv/hoopfast/bin:$PATH PYTHONUNBUFFERED=1
USER hoopfast
VOLUME /var/lib/hoopfast
EXPOSE 6432 8432
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8432/readyz', timeout=3)"]
ENTRYPOINT ["hoopfast"]
CMD ["serve", "-c", "/etc/hoopfast/hoopfast.yaml"]
